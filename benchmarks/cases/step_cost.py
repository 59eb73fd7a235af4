"""A training step with gates and the latency predictor, against a plain step of the same network,
side by side.

ResNet-20, 128 images of 32x32, in float32 and bfloat16. Both steps run forward, cross-entropy,
backward and SGD on the same images; the gated one also scores the filters, multiplies the gates in,
asks the predictor for latency and gradient, and trains the gates. Steps alternate, so that a busy
machine slows both, and the medians of the ratios of neighbours count.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.support.harness import Outcome, at_most
from benchmarks.support.networks import resnet20
from benchmarks.support.predictors import made_up_predictor
from pruning_client.data.sources import as_batches
from pruning_client.graph.space import Traced, make_space
from pruning_client.latency.predictor import Predictor
from pruning_client.latency.smoothing import with_secant_gradient
from pruning_client.methods.base import Context
from pruning_client.methods.gate_options import GateOptions
from pruning_client.methods.gate_training import TrainedGates
from pruning_client.methods.gates import WeightScores
from pruning_client.training.optimiser import sgd
from pruning_client.training.precision import Computed, autocast

_IMAGES = 128
_WARM_UP = 2
#: Epochs of joint training that are said to come, so that all gates stay open to change.
_NEVER_FROZEN = 10_000
_CONFIG = GateOptions()
#: Learning rate of the weights; it does not change what a step costs.
_RATE = 0.01


def run(quick: bool) -> Outcome:
    """Time pairs of steps."""
    torch.manual_seed(0)
    model, example = resnet20()
    traced = make_space(model, example)
    predictor = made_up_predictor(traced.space)
    images = torch.randn(_IMAGES, 3, 32, 32)
    labels = torch.randint(10, (_IMAGES,))
    pairs = 6 if quick else 60
    data: dict[str, Any] = {
        "pairs": pairs,
        "threads": torch.get_num_threads(),
        "groups": len(traced.space.groups),
    }
    bars = []
    precisions: tuple[Computed, ...] = ("float32", "bfloat16")
    for precision in precisions:
        loss = _Loss(images=images, labels=labels, precision=precision)
        steps = {
            "plain": _plain_step(copy.deepcopy(model), loss),
            "gated": _gated_step(copy.deepcopy(model), traced, predictor, loss),
            "predictor": _latency_step(predictor),
        }
        times = _times(steps, pairs)
        data[precision] = {f"{name}_s": statistics.median(one) for name, one in times.items()}
        ratio = _median_ratio(times["gated"], times["plain"])
        share = 100 * _median_ratio(times["predictor"], times["gated"])
        title = f"{precision}: step with gates and predictor against a plain one"
        bars += [
            at_most(title, ratio, 1.1, "x"),
            at_most(f"{precision}: the predictor's part of it", share, 2, "%"),
        ]
    return Outcome(bars=bars, data=data)


def _times(steps: dict[str, Callable[[], None]], pairs: int) -> dict[str, list[float]]:
    """Seconds of each step, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(_WARM_UP + pairs):
        for name, step in steps.items():
            seconds = _seconds(step)
            if number >= _WARM_UP:
                times[name].append(seconds)
    return times


def _median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


@dataclass(frozen=True, kw_only=True)
class _Loss:
    """Cross-entropy [] of a network on the images."""

    images: Tensor
    labels: Tensor
    precision: Computed

    def __call__(self, model: nn.Module) -> Tensor:
        with autocast(model, self.precision):
            outputs = model(self.images)
        return F.cross_entropy(outputs.float(), self.labels)


def _plain_step(model: nn.Module, loss: _Loss) -> Callable[[], None]:
    optimiser = sgd(model.train(), _RATE, _CONFIG.momentum, _CONFIG.weight_decay)

    def step() -> None:
        _descend(loss(model), optimiser)

    return step


def _gated_step(
    model: nn.Module, traced: Traced, predictor: Predictor, loss: _Loss
) -> Callable[[], None]:
    """A step of joint training as `pruning_client.methods.gate_training` takes it, apart from
    reporting.
    """
    context = Context(
        model=model.train(),
        traced=traced,
        train=as_batches((loss.images, loss.labels)),
        predictor=predictor,
        target_ms=0.5 * predictor.sidecar.dense_ms,
    )
    optimiser = sgd(model, _RATE, _CONFIG.momentum, _CONFIG.weight_decay)
    gates = TrainedGates(
        context, WeightScores(model, traced), replace(_CONFIG, epochs=_NEVER_FROZEN)
    )
    gates.renew()

    def step() -> None:
        with gates.attached():
            task = loss(model)
        _descend(task + gates.loss(), optimiser)
        gates.step()

    return step


def _latency_step(predictor: Predictor) -> Callable[[], None]:
    """The predictor's part of a gated step alone: value forward, gradient backward."""
    smooth = with_secant_gradient(predictor)
    widths = torch.tensor(predictor.sidecar.full_widths, dtype=torch.float32, requires_grad=True)

    def step() -> None:
        smooth(widths).backward()  # type: ignore[no-untyped-call]

    return step


def _descend(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def _seconds(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
