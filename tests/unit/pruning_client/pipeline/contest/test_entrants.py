"""Every method of a contest has the same training effort and a name of its own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pruning_client.errors import UsageError
from pruning_client.methods.base import Context, Selection
from pruning_client.methods.effort import own_epochs
from pruning_client.methods.magnitude import Magnitude, Uniform
from pruning_client.methods.w_gates import WGates
from pruning_client.pipeline.contest.entrants import entrants_of
from pruning_client.pipeline.settings import JobSettings


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """A method that trains two parts of a network, one after the other."""

    epochs: int = 3
    generator_epochs: int = 4
    name = "scaling"

    @property
    def training_epochs(self) -> int:
        return self.epochs + self.generator_epochs

    def run(self, context: Context) -> Selection:
        raise NotImplementedError


def test_epochs_of_a_method_are_its_property_or_its_option_or_none() -> None:
    assert own_epochs(Scaling()) == 7
    assert own_epochs(WGates(epochs=5)) == 5
    assert own_epochs(Uniform()) == 0


def test_own_epochs_and_fine_tuning_add_up_to_the_same() -> None:
    entrants = entrants_of([Uniform(), WGates(epochs=5), Scaling()], finetune_epochs=2)
    assert [(one.own_epochs, one.finetune_epochs) for one in entrants] == [(0, 9), (5, 4), (7, 2)]
    settings = entrants[1].settings(JobSettings(), seed=3)
    assert (settings.training.epochs, settings.training.seed) == (4, 3)
    assert settings.method == WGates(epochs=5)


def test_methods_of_one_name_are_told_apart_by_their_options() -> None:
    methods = [Magnitude(), Magnitude(allocator="greedy"), Uniform()]
    labels = [entrant.label for entrant in entrants_of(methods, 1)]
    assert labels == ["l1 allocator=threshold", "l1 allocator=greedy", "uniform"]


@pytest.mark.parametrize("methods", [[], [Uniform(), Uniform()]])
def test_no_method_and_one_given_twice_are_refused(methods: list[Uniform]) -> None:
    with pytest.raises(UsageError):
        entrants_of(methods, 1)
