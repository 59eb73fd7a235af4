"""Texts for people, in the form that databases, logs and tables take."""

from __future__ import annotations

from collections.abc import Sequence

#: Maximum length of the message and of the end of the log of a failure, characters.
MAX_MESSAGE = 4000
MAX_LOG = 20_000


def plain(text: str, most: int) -> str:
    """`text` as every database and log keeps it, cut after `most` characters: strangers' names may
    hold NUL, control characters and halves of characters.
    """
    whole = text[:most].encode("utf-8", "replace").decode()
    return "".join(each if each.isprintable() or each in "\n\t" else "?" for each in whole)


def in_runs(widths: Sequence[int]) -> str:
    """Ascending widths in short, such as ``4–64 by 4, 72``."""
    parts = []
    at = 0
    while at < len(widths):
        end = _run_end(widths, at)
        parts.append(_run_text(widths[at : end + 1]))
        at = end + 1
    return ", ".join(parts)


def _run_end(widths: Sequence[int], start: int) -> int:
    """Index of the last width that follows the first with the same step; three at least."""
    if start + 2 >= len(widths):
        return start
    step = widths[start + 1] - widths[start]
    end = start + 1
    while end + 1 < len(widths) and widths[end + 1] - widths[end] == step:
        end += 1
    return end if end - start >= 2 else start


def _run_text(run: Sequence[int]) -> str:
    if len(run) == 1:
        return str(run[0])
    step = run[1] - run[0]
    by = "" if step == 1 else f" by {step}"
    return f"{run[0]}–{run[-1]}{by}"
