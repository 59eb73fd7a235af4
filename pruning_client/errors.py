"""Every error that the client raises on purpose, beside those of the service
(`latency_service.core.transport.ApiError`).

PruningError
├── UsageError         2   an option is not valid, such as a budget of "fast"
├── Missing            3   no such device, or no predictor and none may be made
├── InvalidInput       6   the model or the data
│   ├── ModelError         cannot be imported, traced or loaded
│   └── DataError          cannot be read, or does not fit the model's input
├── BudgetError        7   the budget leaves nothing to do, or asks for more than there is
├── Refused            8   what was made must not be delivered, or what was given must not be used
│   ├── SlowerThanDense    the pruned network is slower than the one it was made from
│   └── PredictorRefused   the predictor is stale, or of another network, device or runtime
│                          configuration
├── TrainingFailed     1   a training step failed, or its loss or the weights are not finite
├── MeasurementFailed  1   the device could not measure what it was given
└── TaskLost           1   a cluster lost a task again and again

The number is the exit code of ``pruning-client``. Each carries a `message` with the cause and a
`cure` with what to do.
"""

from __future__ import annotations

from typing import Any


def first_line(error: BaseException) -> str:
    """First line of a foreign error's message that is not blank, without its full stop, or the
    error's type.
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__).rstrip(".")


def last_line(error: BaseException) -> str:
    """Last line of a foreign error's message that is not blank, or the error's type: errors of
    worker processes begin with where they happened.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")


class PruningError(Exception):
    """Base of the tree; never raised itself."""

    exit_code = 1
    code = "failed"

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(f"{message} {cure}")
        self.message = message
        self.cure = cure

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent from worker processes with its parts."""
        return type(self), (self.message, self.cure)


class PruningWarning(UserWarning):
    """Something that has to be known before the result is used; it is in the report as well."""


class UsageError(PruningError):
    """An option is not valid."""

    exit_code = 2
    code = "usage"


class Missing(PruningError):
    """Something that must exist first does not; the cure is the command that lists or makes it."""

    exit_code = 3
    code = "missing"


class InvalidInput(PruningError):
    """The model or the data."""

    exit_code = 6
    code = "invalid_input"


class ModelError(InvalidInput):
    """The model cannot be imported, traced or loaded."""

    code = "invalid_model"


class DataError(InvalidInput):
    """The data cannot be read, or do not fit the model's input."""

    code = "invalid_data"


class BudgetError(PruningError):
    """The budget is below what the space reaches, or the dense network already meets it.

    `lowest_ms` is the lowest latency that the network can reach on the device, where the budget is
    below it.
    """

    exit_code = 7
    code = "budget"

    def __init__(self, message: str, cure: str, lowest_ms: float | None = None) -> None:
        super().__init__(message, cure)
        self.lowest_ms = lowest_ms

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.cure, self.lowest_ms)


class Refused(PruningError):
    """What was made must not be delivered, or what was given must not be used."""

    exit_code = 8
    code = "refused"


class SlowerThanDense(Refused):
    """The pruned network is slower, as measured, than the one it was made from."""

    code = "slower_than_dense"


class PredictorRefused(Refused):
    """The predictor is stale, or of another network, device or runtime configuration."""

    code = "predictor_refused"


class TrainingFailed(PruningError):
    """A training step failed, or its loss or the weights are not finite."""

    code = "training_failed"


class MeasurementFailed(PruningError):
    """The device could not measure what it was given."""

    code = "measurement_failed"


class TaskLost(PruningError):
    """A task of a cluster ended with its process or machine, as often as it was started."""

    code = "task_lost"
