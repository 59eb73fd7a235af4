"""report.html: a single file with figures and JavaScript embedded, which opens offline."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from latency_service.core import standalone
from pruning_client.reports import contest_figures, figures
from pruning_client.reports.contest_schema import Contest
from pruning_client.reports.published import published_of
from pruning_client.reports.schema import Front, Report
from pruning_client.reports.templating import make_environment

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
    page = make_environment().get_template(template)
    return page.render(head=Markup(standalone.head()), **content)


def _html(figure: Any) -> Markup | None:
    if figure is None:
        return None
    return Markup(
        figure.to_html(
            full_html=False, include_plotlyjs=False, config=_CONFIG, default_height="auto"
        )
    )
