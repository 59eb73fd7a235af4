"""Templates: the environment with what every page uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from latency_service import __version__
from latency_service.core import standalone, units
from latency_service.dashboard import formatting, links
from latency_service.dashboard.assets import asset, plotly_style_ids

_TEMPLATES = Path(__file__).parent / "templates"
THEMES = ("system", "light", "dark")
THEME_COOKIE = "latency_theme"

#: Pages of the navigation in their order: name and label. Those that exist are shown.
NAVIGATION = (
    ("home", "Home"),
    ("devices", "Fleet"),
    ("campaigns", "Campaigns"),
    ("measurements", "Measurements"),
    ("spaces", "Spaces"),
    ("predictors", "Predictors"),
    ("runs", "Runs"),
    ("queue", "Queue"),
)

#: State of anything: its shape and its tone. Words, shape and colour say the same.
STATES: Mapping[str, tuple[str, str]] = {
    "online": ("●", "good"),
    "offline": ("○", "idle"),
    "queued": ("○", "idle"),
    "leased": ("◐", "run"),
    "running": ("◐", "run"),
    "measuring": ("◐", "run"),
    "open": ("◐", "run"),
    "idle": ("○", "idle"),
    "done": ("✓", "good"),
    "ok": ("✓", "good"),
    "met": ("✓", "good"),
    "current": ("✓", "good"),
    "late": ("✓", "good"),
    "superseded": ("=", "idle"),
    "unstable": ("▲", "warn"),
    "stale": ("▲", "warn"),
    "warning": ("▲", "warn"),
    "undecided": ("▲", "warn"),
    "expired": ("▲", "warn"),
    "failed": ("✕", "bad"),
    "not met": ("✕", "bad"),
    "cancelled": ("■", "idle"),
    "stopping": ("■", "idle"),
}
_UNKNOWN = ("·", "idle")

_FILTERS: Mapping[str, Callable[..., str]] = {
    "number": formatting.number,
    "counted": formatting.count,
    "with_interval": units.with_interval,
    "share": formatting.share,
    "duration": formatting.duration,
    "age": formatting.age,
    "instant": formatting.instant,
    "middle": formatting.middle,
}


class Renderer:
    """Renders templates of one application.

    Args:
        root: path under which a proxy serves the service, or an empty string.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._environment = _environment(root)
        self._files = _environment(root, in_file=True)

    def render(self, request: Request, template: str, context: Mapping[str, Any]) -> str:
        """A whole page."""
        theme = request.cookies.get(THEME_COOKIE, "system")
        common: dict[str, Any] = {
            "viewer": getattr(request.state, "viewer", None),
            "theme": theme if theme in THEMES else "system",
            "page_name": getattr(request.scope.get("route"), "name", ""),
            "path_parameters": request.path_params,
            "query": _query(request),
            "tables": [],
        }
        return self._environment.get_template(template).render({**common, **context})

    def part(self, template: str, context: Mapping[str, Any]) -> str:
        """A part of a page, for a live update."""
        return self._environment.get_template(template).render(context)

    def file(self, template: str, context: Mapping[str, Any]) -> str:
        """A page that is one file, for readers without the service: it has no links."""
        return self._files.get_template(template).render(context)


def _inlined(name: str) -> Markup:
    """The text of one of our own assets."""
    return Markup(asset(name).content.decode())


def _query(request: Request) -> dict[str, str | list[str]]:
    """Query parameters: those that are given several times, such as runs to compare, as lists."""
    given = request.query_params
    several = {name: given.getlist(name) for name in given}
    return {name: values[0] if len(values) == 1 else values for name, values in several.items()}


def dashboard_of(request: Request) -> Renderer:
    renderer: Renderer = request.app.state.dashboard
    return renderer


def _environment(root: str, *, in_file: bool = False) -> Environment:
    """Templates with what they use.

    Args:
        in_file: whether pages are files to keep: without links and without ages.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )

    def href(name: str, query: Mapping[str, object] | None = None, /, **path: str) -> str:
        return links.link(root, name, query, **path)

    def static(name: str) -> str:
        return links.link(root, "static", address=asset(name).address)

    environment.globals.update(
        href=href,
        static=static,
        exists=links.is_declared,
        in_file=in_file,
        inlined=_inlined,
        standalone_head=lambda: Markup(standalone.head()),
        navigation=NAVIGATION,
        version=__version__,
        plotly_style_ids=plotly_style_ids,
        state_of=lambda word: STATES.get(str(word), _UNKNOWN),
    )
    environment.filters.update(_FILTERS)
    return environment
