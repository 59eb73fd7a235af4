"""Errors and exit codes of ``pruning-client``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

from latency_service.core import exit_codes
from latency_service.core.terminal.output import report_error

if TYPE_CHECKING:
    from pruning_client.reports.schema import Outcome

#: Sentence that ends the help of every command.
EXIT_CODES = exit_codes.epilog(
    exit_codes.NOT_DECIDED,
    ok="ok and the budget met",
    failed="not met as measured (or the device could not measure)",
    invalid="invalid model or data",
)


#: Exit code of each outcome of a job.
OF_OUTCOME: dict[Outcome, int] = {
    "met": exit_codes.OK,
    "not met": exit_codes.FAILED,
    "not decided": exit_codes.NOT_DECIDED,
}


def fail(message: str, cure: str, code: str, exit_code: int, *, as_json: bool) -> NoReturn:
    """Print the cause and cure of an error on standard error, and exit."""
    report_error(message, cure, code, as_json=as_json)
    sys.exit(exit_code)
