"""Settings of training: fine-tuning, distillation, precision and the user's own recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pruning_client.training.hooks import Recipe

PrecisionName = Literal["auto", "float32", "bfloat16"]


def _default_recipe() -> Recipe:
    from pruning_client.training.hooks import Recipe

    return Recipe()


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training of a network, with gates and after channels are removed."""

    #: Epochs of fine-tuning after removal.
    epochs: int = 6
    #: Peak learning rate of fine-tuning; None for one from the network's own scale, which progress
    #: and report show.
    lr: float | None = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    #: Share of the distillation loss, with the dense network as the teacher, in fine-tuning and in
    #: joint training with gates; 0 turns it off.
    distillation: float = 0.7
    #: Temperature of the softmax in distillation.
    temperature: float = 3.0
    #: Whether layers that read removed channels are fitted to make up for them, in closed form and
    #: without labels, where that brings the outputs nearer to the dense network's.
    compensation: bool = True
    #: Number of batches to recalibrate batch norms with after removal.
    recalibration_batches: int = 50
    #: Precision of the forward pass. "auto" is bfloat16 on GPUs that support it, and on processors
    #: with AMX where a few timed steps show that it is faster; otherwise it is float32.
    precision: PrecisionName = "auto"
    #: Seed of all random numbers; the same seed gives the same widths and the same file.
    seed: int = 0
    #: Images per training batch, for data that are not a DataLoader.
    batch_size: int = 128
    #: Images that are computed at once; gradients of larger batches are accumulated, for little
    #: memory. Batch norms then use the statistics of so many images.
    micro_batch: int | None = None
    #: Share of the data held out to measure accuracy if no validation data are given.
    held_out: float = 0.2
    #: User's own loss, optimiser, schedule, quality measure or training loops.
    recipe: Recipe = field(default_factory=_default_recipe)
