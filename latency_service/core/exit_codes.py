"""Exit codes of both command lines: one table, and the code of each error."""

from __future__ import annotations

from latency_service.core.errors import ServiceError
from latency_service.core.transport import ApiError

OK = 0
FAILED = 1
USAGE = 2
MISSING = 3
UNAUTHORISED = 4
UNREACHABLE = 5
INVALID = 6
NOTHING_TO_DO = 7
REFUSED = 8
NOT_DECIDED = 9
INTERRUPTED = 130

#: Meaning of each code, as help texts and documents show it.
MEANINGS = {
    OK: "ok",
    FAILED: "failed",
    USAGE: "usage",
    MISSING: "not found or not ready",
    UNAUTHORISED: "authentication",
    UNREACHABLE: "service unreachable",
    INVALID: "invalid input",
    NOTHING_TO_DO: "budget not reachable, or nothing to do",
    REFUSED: "refused: slower than the dense network, no int8 file that keeps the accuracy, or a "
    "predictor of another target",
    NOT_DECIDED: "measured, but not decided: the interval includes the budget",
    INTERRUPTED: "stopped by Ctrl-C",
}

_BY_CODE = {
    "bad_address": USAGE,
    "bad_name": USAGE,
    "not_ready": MISSING,
    "not_migrated": MISSING,
    "unreachable": UNREACHABLE,
    "database_unavailable": UNREACHABLE,
}
_BY_STATUS = {
    400: INVALID,
    401: UNAUTHORISED,
    403: UNAUTHORISED,
    404: MISSING,
    413: INVALID,
    422: INVALID,
}


def of_error(error: ApiError | ServiceError) -> int:
    """The exit code of an error of the service, or of no answer from it."""
    return _BY_CODE.get(error.code, _BY_STATUS.get(error.status, FAILED))


def epilog(last: int = INVALID, **meanings: str) -> str:
    """The sentence that ends a help text: all codes up to `last`, and
    that of Ctrl-C.

    Args:
        meanings: more precise meanings for one command, by the code's name, such as ``failed``.
    """
    precise = {globals()[name.upper()]: meaning for name, meaning in meanings.items()}
    shown = [*range(last + 1), INTERRUPTED]
    codes = [f"{code} {precise.get(code, MEANINGS[code])}" for code in shown]
    return f"Exit codes: {', '.join(codes)}."
