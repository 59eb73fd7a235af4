"""report.html: a single file with figures and JavaScript embedded, which opens offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pruning_client.reports import contest_figures, figures
from pruning_client.reports.contest_schema import Contest
from pruning_client.reports.facts import fact_text
from pruning_client.reports.published import published_of
from pruning_client.reports.schema import Front, Report

_TEMPLATES = Path(__file__).parent / "templates"
_CONFIG = {"displaylogo": False, "displayModeBar": False, "responsive": True}


def render(report: Report) -> str:
    """HTML page of a report."""
    drawn = {
        "scatter": figures.predicted_against_measured(report),
        "widths": figures.widths(report),
        "layers": figures.layers(report) if report.layers else None,
        "trajectory": figures.trajectory(report) if report.history else None,
    }
    return _page(
        "report.html.j2",
        report=report,
        figures={name: _html(figure) for name, figure in drawn.items()},
    )


def render_front(front: Front) -> str:
    """HTML page of several runs."""
    return _page("front.html.j2", front=front, figure=_html(figures.front(front)))


def render_contest(contest: Contest) -> str:
    """HTML page of methods compared at equal latency."""
    return _page(
        "contest.html.j2",
        contest=contest,
        published=published_of(contest.methods),
        accuracy_figure=_html(figures.front(contest.front)),
        time_figure=_html(contest_figures.accuracy_against_time(contest)),
    )


def _page(template: str, **content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ms=_ms, count=_count, percent=_percent, change=_change, fact=fact_text
    )
    return environment.get_template(template).render(plotly=Markup(get_plotlyjs()), **content)


def _html(figure: Any) -> Markup | None:
    if figure is None:
        return None
    return Markup(
        figure.to_html(
            full_html=False, include_plotlyjs=False, config=_CONFIG, default_height="auto"
        )
    )


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _count(value: float) -> str:
    """A number with three digits and a decimal prefix."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"


def _change(after: float, before: float) -> str:
    """Relative change in per cent, with its sign."""
    return f"{100 * (after / before - 1):+.0f} %".replace("-", "−")
