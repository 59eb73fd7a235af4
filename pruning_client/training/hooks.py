"""The user's own way of training: each part replaces the default one, in joint training with gates
and after it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler

from pruning_client.pipeline.config import PrecisionName

if TYPE_CHECKING:
    from pruning_client.methods.gate_training import GateTraining


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How networks are trained. A part that is None, or not given, is the default of
    `config.PruneConfig`.
    """

    #: of the network's answers and the labels, a mean over the batch []
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    #: made for the network at hand: the dense one for its training with gates, the small one for
    #: fine-tuning
    optimiser: Callable[[nn.Module], torch.optim.Optimizer] | None = None
    #: of an optimiser and the number of steps to come; stepped after every batch
    schedule: Callable[[torch.optim.Optimizer, int], LRScheduler] | None = None
    #: how good a network is, in per cent, higher is better; by default top-1 accuracy on the
    #: held-out images. With it the network need not be a classifier.
    evaluate: Callable[[nn.Module], float] | None = None
    #: a whole loop that trains the gated network in place: see `loop.GateTraining` for what it has
    #: to call
    train: Callable[[nn.Module, GateTraining], None] | None = None
    #: a whole loop that fine-tunes the small network in place, given it and the dense network
    finetune: Callable[[nn.Module, nn.Module], None] | None = None


def autocast(model: nn.Module, precision: PrecisionName) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision for the forward pass: bfloat16, by default on GPUs that compute with it."""
    device = next(model.parameters()).device.type
    wanted = precision == "bfloat16" or (
        precision == "auto" and device == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.autocast(device, torch.bfloat16) if wanted else contextlib.nullcontext()
