"""Exit codes of ``pruning-client``, and how an error ends the program."""

from __future__ import annotations

import json
import sys
from typing import NoReturn

from rich.console import Console

from latency_service.core.transport import ApiError

NOT_MET = 1
MISSING = 3
UNAUTHORISED = 4
UNREACHABLE = 5
INVALID = 6
EXIT_CODES = (
    "Exit codes: 0 ok and the budget met, 1 not met as measured (or the device could not "
    "measure), 2 usage, 3 not found or not ready, 4 authentication, 5 service unreachable, "
    "6 invalid model or data, 7 budget not reachable or nothing to do, 8 refused: slower than the "
    "dense network, or a predictor of another target."
)
_BY_STATUS = {
    400: INVALID,
    401: UNAUTHORISED,
    403: UNAUTHORISED,
    404: MISSING,
    413: INVALID,
    422: INVALID,
}


def exit_code_of(error: ApiError) -> int:
    """The exit code for an answer of the service, or for none."""
    if error.code == "unreachable":
        return UNREACHABLE
    if error.code == "not_ready":
        return MISSING
    return _BY_STATUS.get(error.status, NOT_MET)


def fail(message: str, cure: str, code: str, exit_code: int, *, as_json: bool) -> NoReturn:
    """End the program with an error's cause and cure on standard error."""
    if as_json:
        error = {"code": code, "message": message, "cure": cure}
        print(json.dumps({"error": error}), file=sys.stderr)
    else:
        console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
        console.print(message, style="red")
        console.print(cure)
    sys.exit(exit_code)
