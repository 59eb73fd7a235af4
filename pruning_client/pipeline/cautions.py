"""What has to be known before a file is deployed: warnings of a job, also shown in its report."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from pruning_client.data.batches import Batches
from pruning_client.data.file_batches import FileBatches
from pruning_client.errors import PruningWarning
from pruning_client.latency.readings import FileMeasurement
from pruning_client.pipeline import artifacts
from pruning_client.training.soundness import chance_of

#: The loss of the last epoch, as a multiple of the lowest, from which training has diverged.
_DIVERGED = 2.0
#: Share of the dense network's quality below which a pruned one has collapsed.
_COLLAPSED = 0.5


def warn(text: str) -> str:
    """Say it at once, and return it for the report."""
    warnings.warn(text, PruningWarning, stacklevel=2)
    return text


@contextlib.contextmanager
def gathered() -> Iterator[list[str]]:
    """Collect the texts of our own warnings in the block, for the report; others are shown."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PruningWarning)
        yield texts
    for one in caught:
        if issubclass(one.category, PruningWarning):
            texts.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def say_of_classes(train: Batches, held_out: Batches, outputs: int | None) -> None:
    """Warn of class folders that are not those of the network, or that held-out data lack."""
    if not isinstance(train, FileBatches) or not train.classes:
        return
    names = train.classes
    if outputs is not None and outputs != len(names):
        warn(
            f"The data hold {_classes(names)}, and the network has {outputs} outputs. Name the "
            "classes in the order of the outputs if that is wrong (`--classes`)."
        )
    if isinstance(held_out, FileBatches) and held_out.classes:
        there = set(held_out.images.labels.tolist())
        missing = [name for label, name in enumerate(names) if label not in there]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            warn(f"The held-out data have no image of the class {missing[0]!r}{more}.")


def _classes(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"one class, {names[0]!r}"
    return (
        f"{len(names)} classes, from {names[0]!r} as output 0 to {names[-1]!r} as output "
        f"{len(names) - 1}"
    )


def of_frozen_norms(names: Sequence[str]) -> str | None:
    """Batch norms that the user has frozen."""
    if not names:
        return None
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"{names[0]}{more}: frozen batch norms keep their statistics, scale and offset. After "
        "channels are removed the statistics do not describe their inputs any more; unfreeze them "
        "(`requires_grad_(True)`, training mode) unless that is meant."
    )


def of_chance(model: nn.Module, data: Batches, which: str) -> str | None:
    """A classifier that is no better than always giving the most frequent label."""
    found = chance_of(model, data)
    if found is None:
        return None
    accuracy, chance = found
    text = (
        f"The {which} network has {accuracy:.1f} % on the held-out data, not clearly better than "
        f"always giving the most frequent label ({chance:.1f} %)."
    )
    if which != "dense":
        return f"{text} Train for more epochs, with another learning rate, or for a larger budget."
    return (
        f"{text} Usual causes: the weights are not loaded, classes are in another order than in "
        "training, or images are normalised otherwise (mean and std, 0..255 in place of 0..1, BGR)."
    )


def of_collapse(dense: float, pruned: float) -> str | None:
    """A quality of which training after the removal has brought back little."""
    if dense <= 0 or pruned >= _COLLAPSED * dense:
        return None
    return (
        f"The pruned network has {pruned:.1f} % on the held-out data, the dense network "
        f"{dense:.1f} %. Train for more epochs, with another learning rate, without distillation "
        "(`Training(distillation=0)`), or for a larger budget."
    )


def of_divergence(history: Sequence[dict[str, Any]], phase: str) -> str | None:
    """Training whose loss ends far above its lowest."""
    losses = [entry["loss"] for entry in history if entry["phase"] == phase and "loss" in entry]
    if len(losses) < 2 or losses[-1] <= max(losses[0], _DIVERGED * min(losses)):
        return None
    return (
        f"Training diverged in {phase!r}: the loss of its last epoch is {losses[-1]:.4g}, and was "
        f"{min(losses):.4g}. Lower the learning rate (`Training(lr=...)`)."
    )


def of_slow_int8(device: str, quantised: FileMeasurement, plain: FileMeasurement) -> str | None:
    """An int8 file that is slower than the fp32 file of the same network."""
    if quantised.latency_ms <= plain.latency_ms:
        return None
    return (
        f"int8 is slower than fp32 on {device!r}: the int8 file takes {quantised.latency_ms:.4g} "
        f"ms, and the fp32 file of the same network {plain.latency_ms:.4g} ms. Deploy "
        f"{artifacts.FLOAT_ONNX} there, or prune for the fp32 target."
    )
