"""Logs: one line an event; JSON on request, for people otherwise."""

from __future__ import annotations

import sys

import structlog


def configure_logging(*, as_json: bool) -> None:
    """Set structlog up for this process; logs go to standard error."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # the other one prints local variables, tokens too
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if as_json else _unchanged,
            renderer,
        ],
        # standard error as it is when a line is written: whoever replaces it may close the old one
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=False,
    )


def _unchanged(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event
