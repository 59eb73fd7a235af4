"""The alternating direction method of multipliers (ADMM) on the weights of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pruning_client.execution.journal import Tensors
from pruning_client.methods.unification.options import AdmmOptions
from pruning_client.training.callback import Callback

#: The nearest admissible values to those of all parameters.
Projection = Callable[[Sequence[Tensor]], list[Tensor]]


class Admm:
    """Pulls parameters W towards admissible values while they are trained.

    Minimised is the loss L(W) for W = Z with admissible Z, in the scaled form (Boyd et al., 2011,
    section 3.1.1; for weights Lin et al., arXiv 2106.08301, [rec]):

    * W: SGD on ``L + rho/2 ||W - Z + U||^2``,
    * Z: projection of W + U, and ``U += W - Z``, both a few times in each stage of the penalty.

    It is a `GateTraining` for a training loop of the user's own.

    Attributes:
        steps: Number of steps to take.
        done: Number of steps taken.
        rho: Present penalty.
        residual: Primal residual ``||W - Z|| / ||W||`` at the last update.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        project: Projection,
        options: AdmmOptions,
        steps: int,
    ) -> None:
        self.steps = steps
        self.done = 0
        self.rho = options.penalty(0, steps)
        self._parameters = list(parameters)
        self._project = project
        self._options = options
        self._every = options.interval(steps)
        self._u = [torch.zeros_like(p, dtype=torch.float32) for p in self._parameters]
        self._z = self._project(self.wanted)
        self.residual = self._distance()

    @property
    def frozen(self) -> bool:
        """Nothing is decided before the last step."""
        return False

    @property
    def wanted(self) -> list[Tensor]:
        """W + U of each parameter, in float32: what is projected."""
        return [
            parameter.detach().float() + dual
            for parameter, dual in zip(self._parameters, self._u, strict=True)
        ]

    def loss(self) -> Tensor:
        """The penalty [] of this step."""
        parts = [
            (parameter.float() - admissible + dual).square().sum()
            for parameter, admissible, dual in zip(self._parameters, self._z, self._u, strict=True)
        ]
        return 0.5 * self.rho * torch.stack(parts).sum()

    def step(self) -> None:
        """Count a step of SGD; update Z and U where it is time, and raise the penalty."""
        self.done += 1
        if self.done % self._every == 0 or self.done == self.steps:
            self._update()
        self._raise_penalty()

    @torch.no_grad()
    def _update(self) -> None:
        self._z = self._project(self.wanted)
        for parameter, admissible, dual in zip(self._parameters, self._z, self._u, strict=True):
            dual += parameter.float() - admissible
        self.residual = self._distance()

    def _raise_penalty(self) -> None:
        rho = self._options.penalty(self.done, self.steps)
        if rho != self.rho:
            # U is the multiplier divided by the penalty
            for dual in self._u:
                dual *= self.rho / rho
            self.rho = rho

    @torch.no_grad()
    def _distance(self) -> float:
        gaps = [
            (parameter.float() - admissible).square().sum()
            for parameter, admissible in zip(self._parameters, self._z, strict=True)
        ]
        norms = [parameter.float().square().sum() for parameter in self._parameters]
        return float((torch.stack(gaps).sum() / torch.stack(norms).sum().clamp_min(1e-30)).sqrt())

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors and plain values for a checkpoint."""
        tensors = {f"admm.z.{i}": value for i, value in enumerate(self._z)}
        tensors |= {f"admm.u.{i}": value for i, value in enumerate(self._u)}
        return tensors, {"done": self.done, "rho": self.rho, "residual": self.residual}

    def restore(self, tensors: Tensors, values: dict[str, Any]) -> None:
        """Restore a checkpoint, after the network's weights."""
        for i, parameter in enumerate(self._parameters):
            self._z[i] = tensors[f"admm.z.{i}"].to(parameter.device)
            self._u[i] = tensors[f"admm.u.{i}"].to(parameter.device)
        self.done = values["done"]
        self.rho = values["rho"]
        self.residual = values["residual"]


class AdmmCallback(Callback):
    """ADMM as a callback of the trainer."""

    def __init__(self, admm: Admm) -> None:
        self._admm = admm

    def total_loss(self, loss: Tensor) -> Tensor:
        return loss + self._admm.loss()

    def metrics(self) -> dict[str, Any]:
        return {"residual": self._admm.residual, "rho": self._admm.rho}

    def figures(self, metrics: dict[str, Any]) -> dict[str, str]:
        return {"residual": f"{metrics['residual']:.3f}"}

    def after_step(self) -> None:
        self._admm.step()

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        return self._admm.state()

    def restore(self, tensors: Tensors, values: dict[str, Any]) -> None:
        self._admm.restore(tensors, values)
