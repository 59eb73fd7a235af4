"""The penalty of torch-pruning's `GrowingRegPruner` in our training loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch_pruning.pruner import GrowingRegPruner
from torch_pruning.pruner.importance import GroupMagnitudeImportance

from pruning_client.execution.journal import Tensors
from pruning_client.training.callback import Callback

#: Shares of the training after which the rate falls to a tenth.
_MILESTONES = (0.6, 0.8)


class Pruner(GrowingRegPruner):  # type: ignore[misc]
    """`GrowingRegPruner` on given groups; penalties and their growth are its own code.

    Its constructor, which is left out, does nothing but trace the network for its own graph and
    read options of the removal.
    """

    def __init__(self, groups: Sequence[Any], *, reg: float, delta_reg: float) -> None:
        self.DG = _GivenGroups(groups=groups)
        self.importance = GroupMagnitudeImportance()
        self.root_module_types: list[type[nn.Module]] = []
        self.ignored_layers: list[nn.Module] = []
        self.base_reg = reg
        self.delta_reg = delta_reg
        self.update_regularizer()

    @property
    def penalties(self) -> list[Tensor]:
        """Penalty of each channel [G][C]."""
        return [self.group_reg[group] for group in self._groups]

    @penalties.setter
    def penalties(self, values: Sequence[Tensor]) -> None:
        self.group_reg = dict(zip(self._groups, values, strict=True))


@dataclass(frozen=True, kw_only=True)
class _GivenGroups:
    """What the pruner asks of its dependency graph."""

    groups: Sequence[Any]

    def get_all_groups(self, **_filters: object) -> Sequence[Any]:
        return self.groups


class GrowingPenalty(Callback):
    """Adds the penalty to the gradients of each step, and lets it grow evenly over the steps."""

    def __init__(self, pruner: Pruner, model: nn.Module, *, growths: int, steps: int) -> None:
        self._pruner = pruner
        self._model = model
        self._growths = growths
        self._steps = steps
        self._done = 0

    def after_pass(self) -> None:
        self._pruner.regularize(self._model)

    def after_step(self) -> None:
        self._done += 1
        for _ in range(self._grown(self._done) - self._grown(self._done - 1)):
            self._pruner.update_reg()

    def _grown(self, steps: int) -> int:
        """Number of growths in the first steps."""
        return self._growths * steps // self._steps

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        tensors = {f"penalty.{g}": value for g, value in enumerate(self._pruner.penalties)}
        return tensors, {"steps": self._done}

    def restore(self, tensors: Tensors, values: dict[str, Any]) -> None:
        count = len(self._pruner.penalties)
        self._pruner.penalties = [tensors[f"penalty.{g}"] for g in range(count)]
        self._done = values["steps"]


def milestones(done: int, total: int) -> float:
    """Factor of the rate: a tenth after each milestone."""
    return float(0.1 ** sum(done >= share * total for share in _MILESTONES))
