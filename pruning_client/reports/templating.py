"""Templates of pages and of what notebooks show."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel

from pruning_client.reports.facts import fact_text

_TEMPLATES = Path(__file__).parent / "templates"


def notebook_html(what: Literal["report", "front", "contest"], value: BaseModel) -> str:
    """A result as a notebook shows it: small HTML without script, in the notebook's colours."""
    template = make_environment().get_template("notebook.html.j2")
    return str(getattr(template.module, what)(value)).strip()


def make_environment() -> Environment:
    """The templates, with the filters that they use; what they are given is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ms=_ms, count=_count, percent=_percent, change=_change, points=_points, fact=fact_text
    )
    return environment


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
    return _signed(f"{100 * (after / before - 1):+.0f} %")


def _points(after: float, before: float) -> str:
    """Change of an accuracy in percentage points, with its sign."""
    return _signed(f"{after - before:+.1f} points")


def _signed(number: str) -> str:
    """With a minus sign instead of a hyphen."""
    return number.replace("-", "−")
