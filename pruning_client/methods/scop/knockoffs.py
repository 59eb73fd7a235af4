"""Knockoffs: inputs that look like the data and say nothing about their targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from pruning_client.errors import DataError, UsageError
from pruning_client.methods.base import Context
from pruning_client.methods.scop.generator import NOISE, train_generator
from pruning_client.training.trainer import History

Inputs = tuple[Tensor, ...]
#: Makes as many knockoffs as there are samples in a batch of inputs [B, ...], of the same shapes.
Knockoffs = Callable[[Inputs, torch.Generator], Any]
#: "dcgan": a generator trained on the data, for images. "gaussian": `gaussian_knockoffs`. "auto":
#: the first where the network takes images, else the second.
KnockoffName = Literal["auto", "dcgan", "gaussian"]
#: A name, or the user's own: a function like `Knockoffs`, or samples [N, ...] of every input to
#: draw from.
KnockoffSource = KnockoffName | Knockoffs | Tensor | tuple[Tensor, ...]
#: Shortest side of an image that the generator makes.
_LEAST_SIDE = 4


def check_source(source: KnockoffSource, inputs: Inputs) -> None:
    """Check that knockoffs of a network's inputs can be made.

    Raises:
        DataError: They cannot.
        UsageError: The source is none, or is of another shape than the inputs.
    """
    if isinstance(source, str):
        _check_name(source, inputs)
    elif not callable(source):
        _check_samples(_as_tuple(source), inputs)


def make_knockoffs(
    context: Context, source: KnockoffSource, generator_steps: int
) -> tuple[Knockoffs, History]:
    """A maker of knockoffs, and the history of its training, for a source that was checked."""
    inputs = context.traced.example
    if not isinstance(source, str):
        return source if callable(source) else _drawn_from(_as_tuple(source)), []
    if source == "gaussian" or (source == "auto" and not are_images(inputs)):
        return gaussian_knockoffs, []
    generator, history = train_generator(context, generator_steps)

    def generated(batch: Inputs, random: torch.Generator) -> Inputs:
        noise = torch.randn(len(batch[0]), NOISE, generator=random)
        return (generator(noise.to(batch[0].device)),)

    return generated, history


def _check_name(source: str, inputs: Inputs) -> None:
    if source not in ("auto", "dcgan", "gaussian"):
        raise UsageError(
            f"There are no knockoffs {source!r}.",
            "Give 'auto', 'dcgan', 'gaussian', a function or samples.",
        )
    if not all(x.is_floating_point() for x in inputs):
        raise DataError(
            "The network takes whole numbers, of which no knockoffs can be made.",
            "Give your own: `SCOP(knockoffs=...)`, a function or samples.",
        )
    if source == "dcgan" and not are_images(inputs):
        raise DataError(
            "A DCGAN makes knockoffs of images, and the network takes other inputs.",
            "Give `SCOP(knockoffs='gaussian')`, a function or samples.",
        )


def _as_tuple(samples: Tensor | tuple[Tensor, ...]) -> Inputs:
    return (samples,) if isinstance(samples, Tensor) else tuple(samples)


def are_images(inputs: Sequence[Tensor]) -> bool:
    """Whether inputs are one batch of images [B, C, H, W] that are large enough to generate."""
    return len(inputs) == 1 and inputs[0].dim() == 4 and min(inputs[0].shape[2:]) >= _LEAST_SIDE


def gaussian_knockoffs(inputs: Inputs, random: torch.Generator) -> Inputs:
    """Samples of the normal distribution with the mean and the covariance of a batch [ours].

    They are the mean plus random combinations of the deviations from it, the same combinations for
    every input, so that inputs of any shape keep all their covariances.

    Args:
        inputs: Batch of each input [B, ...].
    """
    count = len(inputs[0])
    weights = torch.randn(count, count, generator=random) / max(1, count - 1) ** 0.5
    return tuple(_combined(x, weights.to(x)) for x in inputs)


def _combined(x: Tensor, weights: Tensor) -> Tensor:
    mean = x.mean(0)
    return mean + (weights @ (x - mean).flatten(1)).view_as(x)


def joined(inputs: Inputs, made: Any) -> Inputs:
    """Real inputs followed by their knockoffs [2 B, ...].

    Raises:
        UsageError: The knockoffs are not of the same shapes.
    """
    knockoffs = (made,) if torch.is_tensor(made) else tuple(made)
    if [x.shape for x in knockoffs] != [x.shape for x in inputs]:
        raise UsageError(
            f"Knockoffs of shape {_shapes(knockoffs)} do not fit inputs of shape "
            f"{_shapes(inputs)}.",
            "Return as many samples as the batch has, of the same shape.",
        )
    pairs = zip(inputs, knockoffs, strict=True)
    return tuple(torch.cat([real, control.detach().to(real)]) for real, control in pairs)


def _drawn_from(samples: Inputs) -> Knockoffs:
    def drawn(batch: Inputs, random: torch.Generator) -> Inputs:
        index = torch.randint(len(samples[0]), (len(batch[0]),), generator=random)
        return tuple(x[index.to(x.device)] for x in samples)

    return drawn


def _check_samples(samples: Inputs, inputs: Inputs) -> None:
    wanted = [x.shape[1:] for x in inputs]
    if [x.shape[1:] for x in samples] != wanted or not len(samples[0]):
        raise UsageError(
            f"Knockoff samples of shape {_shapes(samples)} do not fit inputs of shape "
            f"{_shapes(inputs)}.",
            "Give samples [N, ...] of every input, as the network takes them.",
        )


def _shapes(tensors: Sequence[Tensor]) -> str:
    return " and ".join(str(list(x.shape)) for x in tensors)
