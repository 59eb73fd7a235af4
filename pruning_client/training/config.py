"""Settings of training: data loop, fine-tuning, precision and the user's own recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pruning_client.training.hooks import Recipe

PrecisionName = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained, with gates and after removal."""

    #: epochs of fine-tuning after removal
    epochs: int = 6
    #: peak learning rate of fine-tuning
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    #: share of the distillation loss towards the dense network's outputs, in joint training with
    #: gates as well; 0 turns it off
    distillation: float = 0.7
    #: temperature that softens the outputs that distillation compares
    temperature: float = 3.0
    #: batches from which the statistics of batch norms are estimated anew after removal
    recalibration_batches: int = 50
    #: precision of the forward pass; "auto" is bfloat16 on GPUs that compute with it, else float32
    precision: PrecisionName = "auto"
    #: seed of everything random; the same seed gives the same widths and the same file
    seed: int = 0
    #: images per training batch, for data that are not a DataLoader
    batch_size: int = 128
    #: share of the data held out for accuracy when no validation data are given
    held_out: float = 0.2
    #: the user's own loss, optimiser, schedule, measure of quality or loops
    recipe: Recipe = field(default_factory=Recipe)
