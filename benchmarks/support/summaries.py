"""What the raw data of committed results say beyond their bars: one table for each benchmark.

Every function takes the ``data`` of a result and returns rows with the same columns. Benchmarks
that write such rows themselves have none here.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

Data = dict[str, Any]
Rows = list[dict[str, str]]


def accuracy(data: Data) -> Rows:
    """Accuracy in per cent of the test images, mean and standard deviation over the seeds."""
    cases: list[Data] = data["cases"]
    shares = sorted({case["share"] for case in cases}, reverse=True)
    methods = list(dict.fromkeys(case["method"] for case in cases))
    dense = [case["dense_accuracy"] for case in cases if case["method"] == methods[0]]
    rows = [
        {"method": method}
        | {
            f"{share:.0%} of the latency": mean_and_deviation(
                case["accuracy"]
                for case in cases
                if case["method"] == method and case["share"] == share
            )
            for share in shares
        }
        for method in methods
    ]
    return [*rows, dict.fromkeys(rows[0], mean_and_deviation(dense)) | {"method": "(dense)"}]


def budget(data: Data) -> Rows:
    """One row for each network and condition."""
    cases = [case for case in data["cases"] if not case["refused"]]
    kinds = dict.fromkeys((case["condition"], case["network"]) for case in cases)
    return [
        _budget_row(*kind, [c for c in cases if (c["condition"], c["network"]) == kind])
        for kind in kinds
    ]


def _budget_row(condition: str, network: str, cases: list[Data]) -> dict[str, str]:
    below = [-case["over_percent"] for case in cases]
    off = [100 * abs(c["stated_share"] / c["alternated_share"] - 1) for c in cases]
    return {
        "network": f"{network}, {condition}",
        "jobs": str(len(cases)),
        "met": str(sum(case["outcome"] == "met" for case in cases)),
        "below the budget, median": f"{statistics.median(below):.1f} %",
        "range": span(below, "%"),
        "share, stated against alternated": f"{span(off)} %",
        "measurements of files": span([case["verifications"] for case in cases], digits=0),
    }


def budget_levels(data: Data) -> Rows:
    """Predictors whose campaigns ran beside load, against those of quiet campaigns."""
    return [
        {
            "network": level["network"],
            "level beside load": f"{level['level_percent']:+.2f} %",
            "gap between 90 % intervals": f"{level['gap_percent']:.2f} %",
        }
        for level in data["levels"]
    ]


def cold_start(data: Data) -> Rows:
    """Where the time goes."""
    phases = {"the service is ready": data["ready_seconds"], **data["seconds_by_phase"]}
    return [{"phase": phase, "seconds": f"{seconds:.1f}"} for phase, seconds in phases.items()] + [
        {
            "phase": f"held-out error of {data['model']}, {data['architectures']} architectures",
            "seconds": f"({data['mape']:.1f} %; the same measured twice "
            f"{data['repeat_difference']:.1f} %)",
        }
    ]


def demo(data: Data) -> Rows:
    """One row for each run."""
    return [_demo_row(case) for case in data["cases"] if case["report"]]


def _demo_row(case: Data) -> dict[str, str]:
    report = case["report"]
    dense, pruned, predictor = report["dense"], report["pruned"], report["predictor"]
    below = 100 * (1 - pruned["latency_ms"] / report["budget_ms"])
    return {
        "machine": case["condition"],
        "dense": f"{dense['latency_ms']:.3f} ms, {dense['accuracy']:.1f} %",
        "budget": f"{report['budget_ms']:.3f} ms",
        "pruned": f"{pruned['latency_ms']:.3f} ms, {pruned['accuracy']:.1f} %",
        "outcome": f"{report['outcome']} ({report['probability']:.1%})",
        "below": f"{below:.1f} %",
        "error": f"{predictor['mape']:.1f} %",
        "measured twice": f"{predictor['repeat_difference']:.1f} %",
        "run": f"{case['wall_seconds']:.0f} s",
    }


def demo_rivals(data: Data) -> Rows:
    """Cross-validation errors of all kinds of model over the runs."""
    found: dict[str, list[float]] = {}
    for case in data["cases"]:
        for rival in (case["report"] or {}).get("predictor", {}).get("rivals", []):
            found.setdefault(rival["name"], []).append(rival["mape"])
    return [{"model": name, "error": span(errors, "%")} for name, errors in found.items()]


def gradient(data: Data) -> Rows:
    """Cosine of predicted and measured gradients over the architectures."""
    return [
        {
            "architectures": str(len(data["cosines"])),
            "cosine, mean": f"{statistics.mean(data['cosines']):.3f}",
            "lowest": f"{min(data['cosines']):.3f}",
            "differences": str(data["differences"]),
            "of them clear of the noise": str(data["told_apart"]),
        }
    ]


def intervals(data: Data) -> Rows:
    """Share of held-out measurements inside the 90 % interval."""
    return [
        {
            "data": name,
            "draws": str(len(shares)),
            "mean": f"{statistics.mean(shares):.1f} %",
            "range": span(shares, "%"),
        }
        for name, shares in data["covered"].items()
    ]


def lpnet(data: Data) -> Rows:
    """Held-out errors, and those of the rivals by cross-validation with 100 measurements."""
    return [_lpnet_row(name, entry) for name, entry in data.items()]


def _lpnet_row(network: str, entry: Data) -> dict[str, str]:
    few, many = entry["trained"]["100"], entry["trained"]["400"]
    rivals = {
        name: error
        for name, error in few["cross_validated"].items()
        if not name.startswith("lpnet")
    }
    best = min(rivals, key=lambda name: rivals[name])
    return {
        "network": network,
        "groups": str(entry["groups"]),
        "measured twice": f"{entry['repeat_difference']:.2f} %",
        "100 measurements": f"{few['mape']:.2f} %",
        "400": f"{many['mape']:.2f} %",
        "best rival": f"{rivals[best]:.1f} % ({best})",
        "the paper's MLP": f"{few['cross_validated']['lpnet-mlp']:.1f} %",
    }


def lpnet_third_party(data: Data) -> Rows:
    """Error of LPNet and of the reference, a tuned kernel ridge, by number of measurements."""
    return [
        {
            "table": cell["table"],
            "measurements": str(cell["count"]),
            "LPNet": f"{cell['mape']:.2f} %",
            "reference": f"{cell['reference']:.2f} %",
            "ratio": f"{cell['mape'] / cell['reference']:.2f}",
        }
        for cell in data["cells"]
    ]


def materialise(data: Data) -> Rows:
    """Seconds for one architecture."""
    return [
        {
            "network": name,
            "weights by shape": f"{1e3 * entry['materialise_s']:.2f} ms",
            "real weights": f"{1e3 * entry['materialise_with_weights_s']:.1f} ms",
            "torch's dynamo exporter": f"{entry['export_dynamo_s']:.1f} s",
            "its TorchScript exporter": f"{entry['export_torchscript_s']:.1f} s",
        }
        for name, entry in data.items()
    ]


def methods(data: Data) -> Rows:
    """Accuracy in per cent of the test images, mean and standard deviation over the seeds. Files
    that missed the common latency are marked with their own.
    """
    rows: list[Data] = data["rows"]
    shares = sorted({row["share"] for row in rows}, reverse=True)
    kinds = dict.fromkeys((row["network"], row["method"]) for row in rows)
    return [
        {"network": network, "method": method}
        | {
            f"{share:.0%} of the latency": _accuracy_of(
                [row for row in rows if (row["network"], row["method"]) == (network, method)],
                share,
            )
            for share in shares
        }
        for network, method in kinds
    ]


def _accuracy_of(rows: list[Data], share: float) -> str:
    found = [row for row in rows if row["share"] == share]
    accuracies = [row["accuracy"] for row in found if row["failure"] is None]
    if not accuracies:
        return f"{found[0]['failure']}" if found else "–"
    apart = [row for row in found if row["failure"] is None and not row["is_equal"]]
    shares = [f"{100 * row['latency_ms'] / row['dense_ms']:.1f} %" for row in apart]
    note = f" ({', '.join(shares)} of the latency)" if shares else ""
    return mean_and_deviation(accuracies) + note


def methods_effort(data: Data) -> Rows:
    """Epochs of choosing the channels and of fine-tuning, and mean seconds of the two."""
    done = [row for row in data["rows"] if row["failure"] is None]
    kinds = dict.fromkeys((row["network"], row["method"]) for row in done)
    return [
        _effort_row(*kind, [row for row in done if (row["network"], row["method"]) == kind])
        for kind in kinds
    ]


def _effort_row(network: str, method: str, rows: list[Data]) -> dict[str, str]:
    choosing = statistics.mean(row["selecting_seconds"] for row in rows)
    training = statistics.mean(row["training_seconds"] for row in rows)
    return {
        "network": network,
        "method": method,
        "epochs": f"{rows[0]['own_epochs']} + {rows[0]['finetune_epochs']}",
        "choosing": f"{choosing:.0f} s",
        "fine-tuning": f"{training:.0f} s",
    }


def never_slower(data: Data) -> Rows:
    """Smallest, median and largest ratio over seven shares of the dense network's latency."""
    return [
        {
            "network": name,
            "speed-up / reduction of MACs": _three(entry["speed_per_mac"]),
            "FLOPs pruning / ours": _three(entry["theirs_to_ours"]),
            "FLOPs pruning / dense": _three(entry["theirs_to_dense"]),
        }
        for name, entry in data["ranges"].items()
    ]


def serving(data: Data) -> Rows:
    """What the bars are computed from."""
    cpu = {
        f"server CPU of one request, {name}": f"{microseconds:.0f} µs"
        for name, microseconds in data["cpu_us_per_request"].items()
    }
    beside = data["single_beside_batches"]
    values = cpu | {
        "binary, predictions for each second of server CPU": (
            f"{data['binary']['per_cpu_second']:,.0f}"
        ),
        "binary, predictions a second, one client": (
            f"{data['binary']['per_second_one_client']:,.0f}"
        ),
        "single predictions beside batches, median and 99th percentile": (
            f"{beside['p50_ms']:.1f} and {beside['p99_ms']:.1f} ms"
        ),
        "batch of 1,024 with gradient, in process": f"{data['in_process']['median_ms']:.1f} ms",
        f"the same, a mixture of {data['in_process_transferred']['tables']} models": (
            f"{data['in_process_transferred']['median_ms']:.1f} ms"
        ),
    }
    return [{"what": what, "measured": value} for what, value in values.items()]


def step_cost(data: Data) -> Rows:
    """Seconds of one training step."""
    return [
        {
            "precision": precision,
            "plain step": f"{data[precision]['plain_s']:.3f} s",
            "with gates and predictor": f"{data[precision]['gated_s']:.3f} s",
            "the predictor's part": f"{1e3 * data[precision]['predictor_s']:.1f} ms",
            "pairs": str(data["pairs"]),
            "threads": str(data["threads"]),
        }
        for precision in ("float32", "bfloat16")
    ]


def transfer(data: Data) -> Rows:
    """Error and rank correlation by number of measurements, the oracle's in parentheses."""
    return [
        {"target": entry["target"]}
        | {f"{count}": _with_oracle(found) for count, found in entry["trained"].items()}
        for entry in data["targets"]
    ]


def _with_oracle(found: Data) -> str:
    oracle = found["oracle"]
    return (
        f"{found['mape']:.2f} % ({oracle['mape']:.2f}), "
        f"{found['spearman']:.3f} ({oracle['spearman']:.3f})"
    )


#: Tables of each benchmark, by its name.
SUMMARIES: dict[str, tuple[Callable[[Data], Rows], ...]] = {
    "accuracy": (accuracy,),
    "budget": (budget, budget_levels),
    "cold-start": (cold_start,),
    "demo": (demo, demo_rivals),
    "gradient": (gradient,),
    "intervals": (intervals,),
    "lpnet": (lpnet,),
    "lpnet-third-party": (lpnet_third_party,),
    "materialise": (materialise,),
    "methods": (methods, methods_effort),
    "never-slower": (never_slower,),
    "serving": (serving,),
    "step-cost": (step_cost,),
    "transfer": (transfer,),
}


def mean_and_deviation(values: Iterable[float]) -> str:
    """Mean and standard deviation of a sample, one digit."""
    sample = list(values)
    spread = f" ± {statistics.stdev(sample):.1f}" if len(sample) > 1 else ""
    return f"{statistics.mean(sample):.1f}{spread}"


def span(values: list[float], unit: str = "", digits: int = 1) -> str:
    """Lowest and highest of several values."""
    ends = f"{min(values):.{digits}f} to {max(values):.{digits}f}"
    return f"{ends} {unit}".strip()


def _three(values: list[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in values)
