"""``python -m pruning_client.demo URL DEVICE``: what ``latency-service up --demo`` starts."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from typing import NoReturn

from latency_service.core import exit_codes
from latency_service.core.client import Client
from latency_service.core.parents import die_with_parent
from latency_service.core.transport import ApiError
from pruning_client.demo.fill import Size, fill
from pruning_client.reports.progress_bars import ProgressBars

_AGAIN = "The service goes on; `latency-service up --demo` tries again what is missing."


def main(url: str, device: str, size: Size) -> int:
    """Fill the service with demo data; the token is that of LATENCY_SERVICE_TOKEN."""
    die_with_parent()
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()
    try:
        with Client(url) as client, ProgressBars() as bars:
            filled = fill(client, device, bars, size)
    except KeyboardInterrupt:
        _say("The demo was interrupted; `latency-service up --demo` goes on where it stopped.")
        return exit_codes.FAILED
    except ApiError as error:
        _say(f"The demo stopped: {error.message} {error.cure} {_AGAIN}")
        return exit_codes.FAILED
    for step, cause in filled.failed.items():
        _say(f"Failed, {step}: {cause.message} {cause.cure}")
    if filled.failed:
        _say(f"The demo data are not complete. {_AGAIN}")
        return exit_codes.FAILED
    if filled.made:
        steps = "1 step" if filled.made == 1 else f"{filled.made} steps"
        _say(f"The demo data are complete: {steps} in {time.monotonic() - started:.0f} s.")
    else:
        _say("The demo data were complete already.")
    return exit_codes.OK


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
    code = main(sys.argv[1], sys.argv[2], Size())
    sys.stderr.flush()
    # all work is ended and recorded; to unload torch takes longer than a supervisor waits
    os._exit(code)
