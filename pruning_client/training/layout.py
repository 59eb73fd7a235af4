"""Memory layout of a network in training: channels last where the processor is faster with it.

A network whose convolutions have their weights in this layout computes its features in it. The
values are the same but for rounding. On two cores of an AMD EPYC an EfficientNet-Lite0 trains in
0.6 times the time at 224x224.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pruning_client.data.batch import Batch
from pruning_client.execution.copies import copied
from pruning_client.training.batch_norm import train_mode
from pruning_client.training.config import Training
from pruning_client.training.losses import TrainingLoss

#: Number of samples that are timed.
_SAMPLES = 8
_TIMED_STEPS = 2
#: Time of training that is too short for a trial, seconds.
_SHORT_SECONDS = 20.0
#: Speed-up from which the layout is used.
_WORTHWHILE = 1.1


def is_faster(
    model: nn.Module,
    batch: Batch,
    training: Training,
    *,
    samples: int,
    clock: Callable[[], float] = time.perf_counter,
) -> bool:
    """Whether a few timed steps are faster with channels last.

    It is not tried on accelerators, for networks without convolutions of images or in that layout
    already, for short training, for a training loop of the user's own, and for outputs that would
    have another layout: a loss may read them by their place in memory.

    Args:
        batch: The first training samples.
        samples: Number of samples that the job trains on, over all epochs.
    """
    own_loop = training.recipe.train is not None or training.recipe.finetune is not None
    if own_loop or not _has_choice(model):
        return False
    few = batch.first(_SAMPLES)
    loss = TrainingLoss(training=training)
    with torch.random.fork_rng(devices=[]):
        try:
            plain = _seconds(copied(model), few, loss, clock)
            other = channels_last(copied(model))
            if plain / len(few) * samples < _SHORT_SECONDS or not _has_plain_outputs(other, few):
                return False
            return plain > _WORTHWHILE * _seconds(other, few, loss, clock)
        except Exception:  # noqa: BLE001 a forward pass or a loss that needs the usual layout
            return False


def channels_last(model: nn.Module) -> nn.Module:
    """The network with the weights of its convolutions in the layout, in place."""
    changed: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return changed


def contiguous(model: nn.Module) -> nn.Module:
    """The network in torch's usual layout, in place."""
    changed: nn.Module = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return changed


def _has_choice(model: nn.Module) -> bool:
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    return bool(weights) and all(
        one.device.type == "cpu" and one.is_contiguous() for one in weights
    )


def _seconds(
    model: nn.Module, batch: Batch, loss: TrainingLoss, clock: Callable[[], float]
) -> float:
    """The shortest of a few training steps after a first one."""
    train_mode(model)
    found = []
    for _ in range(1 + _TIMED_STEPS):
        begun = clock()
        loss(model, batch).backward()  # type: ignore[no-untyped-call]
        found.append(clock() - begun)
    return min(found[1:])


def _has_plain_outputs(model: nn.Module, batch: Batch) -> bool:
    """Whether the outputs are in the usual layout in both modes."""
    outputs = []
    for prepare in (nn.Module.eval, train_mode):
        prepare(model)
        with torch.no_grad():
            outputs += pytree.tree_leaves(model(*batch.inputs))
    return all(one.is_contiguous() for one in outputs if isinstance(one, Tensor))
