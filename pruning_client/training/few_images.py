"""Settings of training that follow the number of images.

With some hundred images the usual number of epochs trains next to nothing. There are then more
epochs, and the images are mixed for distillation, so that so many epochs do not learn them by heart
[ours].
"""

from __future__ import annotations

import math
from dataclasses import replace

from pruning_client.training.config import EPOCHS, Training

#: Number of images, counted once for each epoch, for which epochs are added, and the most epochs.
_SEEN = 60_000
_MOST_EPOCHS = 120


def epochs_for(images: int) -> int:
    """Epochs of fine-tuning, for a number of training images."""
    return max(EPOCHS, min(_MOST_EPOCHS, math.ceil(_SEEN / max(1, images))))


def for_images(training: Training, images: int) -> Training:
    """The settings, with those that follow the number of training images filled in."""
    usual = epochs_for(images)
    epochs = usual if training.epochs is None else training.epochs
    mixing = min(usual, epochs) > EPOCHS if training.mixing is None else training.mixing
    return replace(training, epochs=epochs, mixing=mixing)
