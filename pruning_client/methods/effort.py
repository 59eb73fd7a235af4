"""Training effort of a method, counted in epochs, so that methods compare at equal effort."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pruning_client.methods.base import Method


@runtime_checkable
class TrainsInRun(Protocol):
    """A method whose `run` trains, and whose option `epochs` does not say for how long [ours]."""

    @property
    def training_epochs(self) -> int:
        """Number of passes over the training data in `run`, whatever they train."""


def own_epochs(method: Method) -> int:
    """Number of epochs that a method trains in `run`.

    It is the property `training_epochs` of a method that has it, else the option `epochs`, else 0.
    """
    if isinstance(method, TrainsInRun):
        return method.training_epochs
    return int(getattr(method, "epochs", 0))
