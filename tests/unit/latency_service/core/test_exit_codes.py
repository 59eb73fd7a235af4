from __future__ import annotations

import pytest

from latency_service.core import exit_codes
from latency_service.core.errors import NotFound, NotReady
from latency_service.core.transport import ApiError, Unreachable


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unreachable("http://x", OSError("refused")), exit_codes.UNREACHABLE),
        (NotReady("no predictor", "make one"), exit_codes.MISSING),
        (NotFound("none", "list"), exit_codes.MISSING),
        (ApiError(401, "unauthorised", "no", ""), exit_codes.UNAUTHORISED),
        (ApiError(413, "too_large", "no", ""), exit_codes.INVALID),
        (ApiError(0, "bad_address", "no", ""), exit_codes.USAGE),
        (ApiError(500, "internal", "no", ""), exit_codes.FAILED),
        (ApiError(0, "timeout", "no", ""), exit_codes.FAILED),
    ],
)
def test_what_an_error_stands_for(error: ApiError, code: int) -> None:
    assert exit_codes.of_error(error) == code


def test_the_sentence_of_the_help_names_every_code_up_to_the_last() -> None:
    assert exit_codes.epilog().startswith("Exit codes: 0 ok, 1 failed, 2 usage, 3 not found")
    assert "7" not in exit_codes.epilog()
    whole = exit_codes.epilog(exit_codes.REFUSED, failed="not met as measured")
    assert "1 not met as measured" in whole
    assert whole.endswith(
        "8 refused: slower than the dense network, no int8 file that keeps the accuracy, or a "
        "predictor of another target, 130 stopped by Ctrl-C."
    )
