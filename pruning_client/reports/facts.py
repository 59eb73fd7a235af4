"""Facts that a method reports, as text."""

from __future__ import annotations


def fact_text(value: str | bool | int | float) -> str:
    """A value for readers: numbers with four digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
