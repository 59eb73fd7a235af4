"""Settings of training: fine-tuning, distillation, precision and the user's own recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args

from pruning_client.errors import UsageError

if TYPE_CHECKING:
    from pruning_client.training.hooks import Recipe

PrecisionName = Literal["auto", "float32", "bfloat16"]

#: Epochs of fine-tuning where there are many images.
EPOCHS = 6


def _default_recipe() -> Recipe:
    from pruning_client.training.hooks import Recipe

    return Recipe()


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training of a network, with gates and after channels are removed."""

    #: Epochs of fine-tuning after removal; None for 6, or more where there are few images: as many
    #: as see 60,000 images, at most 120.
    epochs: int | None = None
    #: Peak learning rate of fine-tuning; None for one from the network's own scale, which progress
    #: and report show.
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    #: Share of the distillation loss, with the dense network as the teacher, in fine-tuning and in
    #: joint training with gates; 0 turns it off.
    distillation: float = 0.7
    #: Temperature of the softmax in distillation.
    temperature: float = 3.0
    #: Whether every second epoch of fine-tuning imitates the dense network on mixed images, without
    #: labels; None for where few images are trained on for many epochs. Only for networks that give
    #: class scores.
    mixing: bool | None = None
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
    #: Images per training batch, for data that are not a DataLoader; None for 128, or fewer where
    #: there are few images: at least 16 batches in an epoch, but not below 32.
    batch_size: int | None = None
    #: Images that are computed at once; gradients of larger batches are accumulated, for little
    #: memory. Batch norms then use the statistics of so many images.
    micro_batch: int | None = None
    #: Share of the data held out to measure accuracy if no validation data are given.
    held_out: float = 0.2
    #: User's own loss, optimiser, schedule, quality measure or training loops.
    recipe: Recipe = field(default_factory=_default_recipe)

    @property
    def finetune_epochs(self) -> int:
        """Epochs of fine-tuning; 6 where they follow a number of images that is not known."""
        return EPOCHS if self.epochs is None else self.epochs

    def __post_init__(self) -> None:
        """Check the types and ranges of the settings.

        Raises:
            UsageError: One is of another type, or out of its range.
        """
        for name, (kind, check, range_) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if isinstance(value, bool) or not isinstance(value, kind) or not check(value):
                raise UsageError(f"`Training({name}={value!r})` is not valid.", f"Give {range_}.")
        if self.precision not in get_args(PrecisionName):
            raise UsageError(
                f"There is no precision {self.precision!r}.",
                f"Give one of {', '.join(get_args(PrecisionName))}.",
            )
        if not hasattr(self.recipe, "measures_accuracy"):
            raise UsageError(
                f"`Training(recipe={self.recipe!r})` is no recipe.",
                "Give a `Recipe`, or call a ready one: `recipes.segmentation()`.",
            )


#: Numbers and what they must be: their type, the check, and the range in words.
_RANGES: dict[str, tuple[type | UnionType, Callable[[Any], bool], str]] = {
    "epochs": (int, lambda x: x >= 0, "a whole number of epochs, 0 or more, or None"),
    "lr": (Real, lambda x: 0 < x < math.inf, "a learning rate above 0, or None"),
    "momentum": (Real, lambda x: 0 <= x < 1, "a number from 0 to less than 1"),
    "weight_decay": (Real, lambda x: 0 <= x < math.inf, "a number, 0 or more"),
    "distillation": (Real, lambda x: 0 <= x <= 1, "a share from 0 to 1"),
    "temperature": (Real, lambda x: 0 < x < math.inf, "a number above 0"),
    "recalibration_batches": (int, lambda x: x >= 0, "a whole number, 0 or more"),
    "seed": (int, lambda x: x >= 0, "a whole number, 0 or more"),
    "batch_size": (int, lambda x: x >= 1, "a whole number of images, 1 or more, or None"),
    "micro_batch": (int, lambda x: x >= 1, "a whole number of images, 1 or more, or None"),
    "held_out": (Real, lambda x: 0 < x < 1, "a share between 0 and 1"),
}
_OPTIONAL = ("epochs", "lr", "batch_size", "micro_batch")
