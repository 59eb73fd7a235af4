"""Figures of one measurement: its rounds as a strip, and the canaries beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latency_service.dashboard import figures
from latency_service.dashboard.figures import FigureJson
from latency_service.dashboard.formatting import number
from latency_service.dashboard.measurements.views import OneMeasurementView, RoundRow
from latency_service.dashboard.palette import BLUE, INK, ORANGE, SOFT, VERMILLION
from latency_service.dashboard.tables import Column, Table


def rounds_title(view: OneMeasurementView) -> str:
    """What the rounds show, in one sentence."""
    summary = view.measurement.summary
    spread = 50 * (summary.upper_ms - summary.lower_ms) / summary.latency_ms
    quarantined = sum(row.quarantined is not None for row in view.rounds)
    ending = f"; {quarantined} of {len(view.rounds)} rounds quarantined" if quarantined else ""
    return f"{summary.rounds_used} rounds place the median within ±{number(spread, 2)} %{ending}"


ROUNDS_SUMMARY = (
    "Each round's latency as it was read (hollow) and with the interference that its canaries show "
    "divided out (filled). Crosses are quarantined rounds. The band is the 95 % interval of the "
    "median. Warm-up runs, left of the first round, are not recorded."
)
CANARIES_SUMMARY = (
    "Mean of each canary's last readings before and after a round, above its floor. The dotted "
    "line is 10 %: beyond it the round is quarantined."
)


def rounds_figure(view: OneMeasurementView) -> FigureJson:
    """The rounds over the time of the measuring process."""
    kept = [row for row in view.rounds if row.quarantined is None]
    quarantined = [row for row in view.rounds if row.quarantined is not None]
    traces = [_read(view.rounds), _corrected(kept), _quarantined(quarantined)]
    begin = min((row.at_seconds for row in view.rounds), default=0.0)
    end = max((row.at_seconds for row in view.rounds), default=1.0)
    room = 0.06 * max(end - begin, 1e-3)
    return figures.figure(
        [trace for trace in traces if trace["x"]],
        height=400,
        xaxis=figures.axis(
            "Time of the measuring process", "s", range=[begin - 3 * room, end + room]
        ),
        yaxis=figures.axis("Latency of the round", "ms"),
        shapes=[*_interval(view), _warm_up(begin)],
        annotations=[_note("warm-up", begin)],
    )


def canaries_title(view: OneMeasurementView) -> str:
    share = 100 * view.measurement.summary.quiet_share
    return f"Every canary was at its floor in {share:.0f} % of the rounds"


def canaries_figure(view: OneMeasurementView) -> FigureJson:
    """Canaries above their floors, round by round."""
    traces = [
        figures.measured(
            f"{name} ({number(floor)} ms)",
            [row.at_seconds for row in view.rounds],
            [row.canary_percent[index] for row in view.rounds],
            series=index % 6,
            hovertemplate="%{y:.1f} %<br>%{x:.2f} s<extra>%{fullData.name}</extra>",
        )
        for index, (name, floor) in enumerate(
            zip(view.calibration.canaries, view.calibration.floor_ms, strict=True)
        )
    ]
    far = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 10, "y1": 10}
    return figures.figure(
        traces,
        height=300,
        xaxis=figures.axis("Time of the measuring process", "s"),
        yaxis=figures.axis("Canary above its floor", "%"),
        shapes=[{**far, "line": {"color": SOFT, "width": 1, "dash": "dot"}}],
    )


def round_table(rows: Sequence[RoundRow]) -> Table[RoundRow]:
    """The numbers of both figures."""
    return Table(
        caption="Rounds",
        rows=rows,
        columns=[
            Column(head="round", cell=lambda row: row.number, kind="count"),
            Column(head="at", unit="s", cell=lambda row: row.at_seconds, kind="number", digits=4),
            Column(
                head="read", unit="ms", cell=lambda row: row.latency_ms, kind="number", digits=5
            ),
            Column(
                head="corrected",
                unit="ms",
                cell=lambda row: row.corrected_ms,
                kind="number",
                digits=5,
            ),
            Column(head="runs", cell=lambda row: row.runs, kind="count"),
            Column(
                head="canaries above floor",
                unit="%",
                cell=lambda row: ", ".join(f"{value:.1f}" for value in row.canary_percent),
            ),
            Column(head="quarantined", cell=lambda row: row.quarantined),
        ],
        empty="No rounds are kept of this measurement.",
    )


def _read(rows: Sequence[RoundRow]) -> dict[str, Any]:
    marker = {"color": SOFT, "symbol": "circle-open", "size": 6}
    return _strip("as read", rows, [row.latency_ms for row in rows], marker)


def _corrected(rows: Sequence[RoundRow]) -> dict[str, Any]:
    marker = {"color": BLUE, "symbol": "circle", "size": 7}
    return _strip("corrected", rows, [row.corrected_ms for row in rows], marker)


def _quarantined(rows: Sequence[RoundRow]) -> dict[str, Any]:
    marker = {"color": VERMILLION, "symbol": "x", "size": 8}
    trace = _strip("quarantined", rows, [row.corrected_ms for row in rows], marker)
    return {**trace, "text": [row.quarantined or "" for row in rows]}


def _strip(
    name: str, rows: Sequence[RoundRow], values: Sequence[float], marker: dict[str, Any]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [row.at_seconds for row in rows],
        "y": list(values),
        "text": [""] * len(rows),
        "marker": marker,
        "hovertemplate": "%{y:.4g} ms<br>%{x:.2f} s<br>%{text}<extra>%{fullData.name}</extra>",
    }


def _interval(view: OneMeasurementView) -> list[dict[str, Any]]:
    summary = view.measurement.summary
    wide = {"xref": "paper", "x0": 0, "x1": 1}
    band = {
        **wide,
        "type": "rect",
        "y0": summary.lower_ms,
        "y1": summary.upper_ms,
        "fillcolor": "rgba(0,114,178,0.16)",
        "line": {"width": 0},
        "layer": "below",
    }
    median = {
        **wide,
        "type": "line",
        "y0": summary.latency_ms,
        "y1": summary.latency_ms,
        "line": {"color": INK, "width": 1},
        "layer": "below",
    }
    return [band, median]


def _warm_up(begin: float) -> dict[str, Any]:
    line = {"color": ORANGE, "width": 1.5, "dash": "dash"}
    return {
        "type": "line",
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "x0": begin,
        "x1": begin,
        "line": line,
    }


def _note(text: str, at: float) -> dict[str, Any]:
    return {
        "text": f"{text} ends",
        "x": at,
        "y": 1,
        "yref": "paper",
        "xanchor": "right",
        "yanchor": "top",
        "showarrow": False,
        "font": {"size": 12, "color": SOFT},
    }
