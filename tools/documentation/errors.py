"""The reference of the errors: the classes of each tree, then every message with its cure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from latency_service.jobs.schemas import RETRYABLE, FailureKind
from tools.documentation.error_sources import CLIENT, COMMAND, GAP, RECEIVED, SERVICE, Errors, read
from tools.documentation.markdown import prose, table

_HEADINGS = {
    SERVICE: "Answers of the service",
    RECEIVED: "No answer, or not the service's",
    COMMAND: "The command latency-service",
    CLIENT: "The pruning client",
}


def page() -> str:
    """A section for each tree, and one for the failures of measuring."""
    errors = read()
    lines = [line for tree in _HEADINGS for line in _section(tree, errors)]
    return "\n".join([*lines, *_failures()])


def _section(tree: str, errors: Errors) -> Iterator[str]:
    yield f"## {_HEADINGS[tree]}\n"
    yield from table(
        ["class", "code", "HTTP status", "exit code", "meaning"],
        (
            [
                f"`{one.name}`",
                f"`{one.code}`",
                str(one.status or ""),
                str(one.exit_code),
                prose(one.meaning),
            ]
            for one in errors.classes
            if one.tree == tree
        ),
    )
    codes = {one.code for one in errors.messages if one.tree == tree}
    yield f"Codes: {', '.join(f'`{code}`' for code in sorted(codes))}.\n"
    yield from table(
        ["code", "exit code", "message", "what to do"],
        (
            [f"`{one.code}`", str(one.exit_code), prose(one.message), prose(one.cure)]
            for one in errors.messages
            if one.tree == tree and (one.message, one.cure) != (GAP, GAP)
        ),
    )


def _failures() -> Iterator[str]:
    yield "## Failures of attempts\n"
    yield from table(
        ["kind", "another attempt may succeed"],
        ([f"`{kind}`", "yes" if kind in RETRYABLE else "no"] for kind in get_args(FailureKind)),
    )
