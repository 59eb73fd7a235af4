"""Pictures of the documents: ``python -m benchmarks.support.figures NAME`` draws one."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.support.harness import RESULTS

IMAGES = Path(__file__).parents[2] / "docs" / "images"
_ORANGE = "#d9873b"
_BLUE = "#1f5fa8"
_GREY = "#c9ccd1"
_COLUMNS = 2
#: Kinds of layer in the picture of multiply-accumulates.
_FLOPS_KINDS = {"conv3x3": "3x3 convolution", "depthwise": "depthwise convolution"}
#: One for each method; colours repeat after ten.
_MARKERS = "osD^v<>pXP*"


def lattice(document: dict[str, Any]) -> Figure:
    """One panel per kind of layer: latency of every width and the lattice's verdict."""
    kinds: dict[str, Any] = document["data"]["kinds"]
    rows = -(-(len(kinds) + 1) // _COLUMNS)
    figure = Figure(figsize=(11, 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for panel, (kind, entry) in zip(panels, kinds.items(), strict=False):
        _panel(panel, kind, entry)
    for panel in panels[len(kinds) :]:
        panel.axis("off")
    handles, labels = panels[0].get_legend_handles_labels()
    panels[len(kinds)].legend(handles, labels, loc="center left", frameon=False, fontsize=11)
    where = (
        f"{document['machine']['processor']}, ONNX Runtime "
        f"{document['versions']['onnxruntime']}, one thread"
    )
    panels[len(kinds)].text(0.02, 0.1, where, fontsize=9, color="#555555")
    return figure


def _panel(panel: Axes, kind: str, entry: dict[str, Any]) -> None:
    widths = [point["width"] for point in entry["sweep"]]
    latency = [1e3 * point["latency_ms"] for point in entry["sweep"]]
    panel.plot(widths, latency, color=_GREY, linewidth=1, zorder=1)
    for colour, found, label in (
        (_BLUE, True, "worthwhile: on the lattice"),
        (_ORANGE, False, "dominated: a wider width is faster"),
    ):
        chosen = [i for i, point in enumerate(entry["sweep"]) if point["found"] is found]
        panel.scatter(
            [widths[i] for i in chosen],
            [latency[i] for i in chosen],
            s=11,
            color=colour,
            label=label,
            zorder=2,
        )
    measured = sorted(
        {width for widths in entry["rounds"] for width in widths if width in set(_range(entry))}
    )
    low = min(latency) - 0.06 * (max(latency) - min(latency))
    panel.scatter(
        measured,
        [low] * len(measured),
        s=14,
        marker="|",
        color="#777777",
        label="measured to find it",
    )
    panel.set_title(f"{kind}, found in {entry['seconds']:.0f} s", fontsize=11, loc="left")
    panel.set_xlabel("width (filters)")
    panel.set_ylabel("latency (µs)")
    panel.set_xticks(range(widths[0], widths[-1] + 1, 16))
    panel.spines[["top", "right"]].set_visible(False)


def _range(entry: dict[str, Any]) -> range:
    return range(entry["sweep"][0]["width"], entry["sweep"][-1]["width"] + 1)


def lpnet(document: dict[str, Any]) -> Figure:
    """One panel per network: held-out errors of all models by number of measurements."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, len(document["data"]), squeeze=False, sharey=True).ravel()
    for panel, (name, entry) in zip(panels, document["data"].items(), strict=True):
        sizes = sorted(map(int, entry["trained"]))
        trained = [entry["trained"][str(size)] for size in sizes]
        for rival in trained[0]["cross_validated"]:
            if rival != "lpnet":
                panel.plot(
                    sizes,
                    [found["cross_validated"][rival] for found in trained],
                    marker="o",
                    label=rival,
                )
        curve = [(point["measurements"], point["mape"]) for point in trained[0]["learning_curve"]]
        curve += [(size, found["mape"]) for size, found in zip(sizes[1:], trained[1:], strict=True)]
        panel.plot(
            *zip(*curve, strict=True), marker="o", color="black", linewidth=2.5, label="lpnet"
        )
        floor = entry["repeat_difference"]
        panel.axhline(
            floor, color=_ORANGE, linestyle="--", label="the same architecture measured twice"
        )
        panel.set(xscale="log", yscale="log", title=name, xlabel="measurements")
        panel.set_xticks(
            [25, 50, 100, 200, 400], labels=["25", "50", "100", "200", "400"], minor=False
        )
        panel.set_yticks(
            [0.2, 0.5, 1, 2, 5, 10], labels=["0.2", "0.5", "1", "2", "5", "10"], minor=False
        )
        panel.minorticks_off()
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("held-out error (%)")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    return figure


def methods(document: dict[str, Any]) -> Figure:
    """Two panels per network: accuracy against measured latency, and against the time taken."""
    rows = [row for row in document["data"]["rows"] if row["failure"] is None]
    networks = list(dict.fromkeys(row["network"] for row in rows))
    names = list(dict.fromkeys(row["method"] for row in rows))
    figure = Figure(figsize=(11, 4.2 * len(networks)), layout="constrained")
    panels = figure.subplots(len(networks), 2, squeeze=False, sharey="row")
    for (latency, time), network in zip(panels, networks, strict=True):
        own = [row for row in rows if row["network"] == network]
        for index, name in enumerate(names):
            _method(latency, time, [row for row in own if row["method"] == name], name, index)
        latency.set(title=network, xlabel="measured latency (ms)", ylabel="accuracy (%)")
        time.set(xlabel="choosing channels and fine-tuning (s)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _method(latency: Axes, time: Axes, rows: list[dict[str, Any]], name: str, index: int) -> None:
    """Means over the seeds, one point for each budget."""
    points = []
    for share in sorted({row["share"] for row in rows}):
        own = [row for row in rows if row["share"] == share]
        took = [row["selecting_seconds"] + row["training_seconds"] for row in own]
        points.append(
            (
                statistics.mean(row["latency_ms"] for row in own),
                statistics.mean(took),
                statistics.mean(row["accuracy"] for row in own),
            )
        )
    if not points:
        return
    milliseconds, seconds, accuracies = zip(*points, strict=True)
    style: dict[str, Any] = {"color": f"C{index % 10}", "marker": _MARKERS[index % len(_MARKERS)]}
    latency.plot(milliseconds, accuracies, label=name, linewidth=1, **style)
    time.scatter(seconds, accuracies, **style)
    for panel in (latency, time):
        panel.spines[["top", "right"]].set_visible(False)


def flops(document: dict[str, Any]) -> Figure:
    """One panel per kind of layer: measured latency against what multiply-accumulates promise."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, len(_FLOPS_KINDS), sharey=True)
    for panel, (kind, name) in zip(panels, _FLOPS_KINDS.items(), strict=True):
        sweep = document["data"]["kinds"][kind]["sweep"]
        widest = sweep[-1]
        macs = [100 * point["width"] / widest["width"] for point in sweep]
        latency = [100 * point["latency_ms"] / widest["latency_ms"] for point in sweep]
        panel.plot([0, 100], [0, 100], color=_GREY, label="if multiply-accumulates decided")
        panel.plot(macs, latency, color=_BLUE, marker="o", markersize=3, label="measured")
        panel.set_title(f"{name}, {sweep[0]['width']} to {widest['width']} filters", loc="left")
        panel.set_xlabel("filters, and with them multiply-accumulates (% of the widest)")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("latency (% of the widest)")
    panels[0].legend(loc="upper left", frameon=False)
    return figure


FIGURES: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "flops": flops,
    "lattice": lattice,
    "lpnet": lpnet,
    "methods": methods,
}

#: Benchmark of each picture that is not called after its own.
BENCHMARKS = {"flops": "lattice"}


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when the picture is written, 1 when there is no result to draw."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.support.figures", description=__doc__
    )
    parser.add_argument("name", choices=sorted(FIGURES))
    parser.add_argument("--result", type=Path, help="by default that of the picture's benchmark")
    parser.add_argument("--out", type=Path, help="by default docs/images/NAME.png")
    options = parser.parse_args(arguments)
    benchmark = BENCHMARKS.get(options.name, options.name)
    source: Path = options.result or RESULTS / f"{benchmark}.json"
    if not source.exists():
        print(f"no result {source}: make it with python -m benchmarks {benchmark}", file=sys.stderr)
        return 1
    figure = FIGURES[options.name](json.loads(source.read_text()))
    target: Path = options.out or IMAGES / f"{options.name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(target)  # type: ignore[no-untyped-call]
    print(f"written to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
