"""`lpnet-mlp`: the paper's LPNet (Li et al., 2020), three fully connected layers with ReLU over the
widths.

The layer count and the activation are the paper's; hidden size, normalisation, the logarithmic
target and the schedule are reconstructions. It is the baseline that the structured LPNet must beat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latency_service.core.arrays import Floats, Numbers

HIDDEN = 64
STEPS = 700
LEARNING_RATE = 0.01
WEIGHT_DECAY = 1e-3


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """A fitted network: log latency = mean + scale * network(widths / full), latency in ms."""

    #: Widths of the dense network [G].
    full: Floats
    mean: float
    scale: float
    #: Weights [G, H], [H, H], [H, 1] and biases [H], [H], [1].
    weights: tuple[Tensor, Tensor, Tensor]
    biases: tuple[Tensor, Tensor, Tensor]

    def latency(self, widths: Tensor) -> Tensor:
        """Latency [N] in ms of `widths` [N, G], differentiable, float64."""
        weights = tuple(part.double()[None] for part in self.weights)
        biases = tuple(part.double()[None] for part in self.biases)
        return torch.exp(
            self.mean
            + self.scale * _forward(widths / torch.as_tensor(self.full), weights, biases)[0]
        )

    def log_latency(self, widths: Numbers) -> Floats:
        """Logarithm of the latency [N] of `widths` [N, G]."""
        with torch.no_grad():
            return np.asarray(
                torch.log(self.latency(torch.as_tensor(widths, dtype=torch.float64))).numpy()
            )


def fit_mlps(
    full: Floats,
    widths: Numbers,
    latency_ms: Floats,
    weights: Floats,
    *,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> list[Mlp]:
    """One network for each row of `weights` [K, N]: the weight of each measurement, 0 for held-out
    ones.

    Args:
        full: [G].
        widths: [N, G].
        latency_ms: [N].
        progress: receives the finished share after each step.
    """
    portions = weights / weights.sum(1, keepdims=True)
    mean = (portions * np.log(latency_ms)).sum(1, keepdims=True)
    deviations = np.log(latency_ms) - mean
    scale = np.sqrt((portions * deviations**2).sum(1, keepdims=True))
    inputs, wanted, shares = (
        torch.as_tensor(part, dtype=torch.float32)
        for part in (widths / full, deviations / scale, portions)
    )
    matrices, biases = _start(len(weights), widths.shape[1], seed)

    def loss() -> Tensor:
        return (shares * (_forward(inputs, matrices, biases) - wanted) ** 2).sum()

    _minimise(loss, [*matrices, *biases], progress or (lambda _: None))
    return [
        Mlp(
            full=full,
            mean=float(mean[k, 0]),
            scale=float(scale[k, 0]),
            weights=_of_network(matrices, k),
            biases=_of_network(biases, k),
        )
        for k in range(len(weights))
    ]


def _minimise(
    loss: Callable[[], Tensor], parameters: list[Tensor], progress: Callable[[float], None]
) -> None:
    # fused: with tensors as small as these, the calls take most of a step
    optimiser = torch.optim.AdamW(
        parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for step in range(STEPS):
        optimiser.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        progress((step + 1) / STEPS)


def _of_network(parts: tuple[Tensor, ...], number: int) -> tuple[Tensor, Tensor, Tensor]:
    first, second, third = (part[number].detach() for part in parts)
    return first, second, third


def _start(count: int, groups: int, seed: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The same random network `count` times (He initialisation)."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(groups, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 1)]
    drawn = [torch.randn(size, generator=generator) * (2 / size[0]) ** 0.5 for size in sizes]
    matrices = tuple(part.expand(count, *part.shape).clone().requires_grad_() for part in drawn)
    return matrices, tuple(torch.zeros(count, size[1], requires_grad=True) for size in sizes)


def _forward(inputs: Tensor, weights: tuple[Tensor, ...], biases: tuple[Tensor, ...]) -> Tensor:
    """Outputs [K, N] of K networks for `inputs` [N, G]."""
    hidden = inputs
    for weight, bias in zip(weights[:2], biases[:2], strict=True):
        hidden = torch.relu(hidden @ weight + bias[:, None])
    return (hidden @ weights[2] + biases[2][:, None])[..., 0]
