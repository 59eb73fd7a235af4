"""Figures as plain JSON for the page's script, in the forms that all pages share.

Measured values are filled markers with the 95 % interval as a thin bar; predicted ones are hollow,
their interval a band. Colours of text, grid and paper follow the theme and are set when drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latency_service.core.wire import finite
from latency_service.dashboard.palette import SERIES

#: A figure: ``{"data": traces, "layout": layout}``.
FigureJson = dict[str, Any]
_MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def figure(data: Sequence[dict[str, Any]], *, height: int = 360, **layout: Any) -> FigureJson:
    """A figure in the common layout; `layout` adds to it or replaces parts."""
    common: dict[str, Any] = {
        "height": height,
        "margin": {"l": 64, "r": 16, "t": 12, "b": 52},
        "showlegend": len([one for one in data if one.get("showlegend", True)]) > 1,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "hovermode": "closest",
        "uirevision": "kept",
    }
    return {"data": [_sendable(trace) for trace in data], "layout": _sendable({**common, **layout})}


def axis(title: str, unit: str = "", *, log: bool = False, **more: Any) -> dict[str, Any]:
    """An axis with its unit in the title, such as ``Latency, ms (log)``."""
    text = f"{title}, {unit}" if unit else title
    shape: dict[str, Any] = {"title": {"text": f"{text} (log)" if log else text}}
    if log:
        shape |= {"type": "log", "dtick": "D2", "exponentformat": "none"}
    return {**shape, "automargin": True, **more}


def measured(
    name: str,
    x: Sequence[Any],
    y: Sequence[float],
    *,
    lower: Sequence[float] | None = None,
    upper: Sequence[float] | None = None,
    series: int = 0,
    **more: Any,
) -> dict[str, Any]:
    """Measured values: filled markers, the interval as a thin bar."""
    look = SERIES[series]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": list(x),
        "y": list(y),
        "marker": {"color": look.color, "symbol": look.symbol, "size": 7},
    }
    if lower is not None and upper is not None:
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [high - value for high, value in zip(upper, y, strict=True)],
            "arrayminus": [value - low for low, value in zip(lower, y, strict=True)],
            "thickness": 1,
            "width": 0,
            "color": look.color,
        }
    return {**trace, **more}


def predicted(
    name: str, x: Sequence[Any], y: Sequence[float], *, series: int = 0, **more: Any
) -> dict[str, Any]:
    """Predicted values: hollow markers."""
    look = SERIES[series]
    marker = {
        "color": look.color,
        "symbol": f"{look.symbol}-open",
        "size": 8,
        "line": {"width": 1.5},
    }
    trace = {"type": "scatter", "mode": "markers", "name": name, "x": list(x), "y": list(y)}
    return {**trace, "marker": marker, **more}


def line(
    name: str, x: Sequence[Any], y: Sequence[float | None], *, series: int = 0, **more: Any
) -> dict[str, Any]:
    """A line in the colour and dash of its series; gaps stay gaps."""
    look = SERIES[series]
    shape = {"color": look.color, "dash": look.dash, "width": 1.8}
    trace = {"type": "scatter", "mode": "lines", "name": name, "x": list(x), "y": list(y)}
    return {**trace, "line": shape, "connectgaps": False, **more}


def band(
    name: str,
    x: Sequence[Any],
    lower: Sequence[float],
    upper: Sequence[float],
    *,
    series: int = 0,
    opacity: float = 0.2,
) -> dict[str, Any]:
    """An interval of predictions as a band; its name says which, at which level."""
    red, green, blue = (int(SERIES[series].color[k : k + 2], 16) for k in (1, 3, 5))
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [*x, *reversed(x)],
        "y": [*upper, *reversed(lower)],
        "fill": "toself",
        "fillcolor": f"rgba({red},{green},{blue},{opacity})",
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def monospace(size: int = 12) -> dict[str, Any]:
    """A font for tick labels that are names."""
    return {"family": _MONO, "size": size}


def _sendable(value: Any) -> Any:
    """Without numbers that JSON has not, and without markup in names and other texts."""
    return _unmarked(finite(value))


def _unmarked(value: Any) -> Any:
    """Without markup in texts: plotly takes some tags for its own. Templates of ours and line
    breaks stay.
    """
    if isinstance(value, str):
        return value.replace("<", "‹").replace("‹br>", "<br>")
    if isinstance(value, dict):
        return {
            key: entry if key == "hovertemplate" else _unmarked(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [_unmarked(entry) for entry in value]
    return value
