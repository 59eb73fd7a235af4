"""One batch: inputs of a network and the target of its loss, in whatever structure users have."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pruning_client.errors import DataError

#: Cure of an error about data that are none of the accepted forms.
ACCEPTED_FORMS = (
    "Give (images, labels) arrays, a DataLoader or Dataset of pairs or dictionaries, a folder of "
    "class folders, or Parquet with `image` and `label`; `Samples` names other keys."
)
#: Keys under which samples in dictionaries hold their inputs and targets, the most usual first.
_INPUT_KEYS = ("image", "images", "pixel_values", "img", "input", "inputs", "x")
_TARGET_KEYS = (
    "label",
    "labels",
    "target",
    "targets",
    "mask",
    "masks",
    "annotation",
    "y",
    "fine_label",
)

#: Most kinds of targets, such as a class and a box, that are taken for a list of tensors [B, ...].
_MOST_KINDS = 4

#: Function that picks inputs and target from a sample or a batch of samples.
Pick = Callable[[Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Batch:
    """Inputs of a network and the target of its loss."""

    #: Positional inputs of the network [B, ...].
    inputs: tuple[Tensor, ...]
    #: Target in the structure that the loss takes: a tensor, or tensors in lists, tuples and
    #: dictionaries.
    target: Any

    def __len__(self) -> int:
        return len(self.inputs[0])

    def to(self, device: torch.device) -> Batch:
        """The batch on another torch device; what is no tensor stays as it is."""
        return Batch(
            tuple(x.to(device) for x in self.inputs),
            pytree.tree_map_only(Tensor, lambda x: x.to(device), self.target),
        )

    def part(self, samples: slice) -> Batch:
        """Some of the samples.

        Raises:
            DataError: The target has no entry for each sample.
        """
        if samples.indices(len(self)) == (0, len(self), 1):
            return self
        if not _has_entries(self.target, len(self)):
            raise DataError(
                f"The target of {len(self)} samples is {describe(self.target)}, which cannot be "
                "cut into pieces.",
                "Leave `micro_batch` out, or give a target with one entry for each sample.",
            )
        return self.cut(samples)

    def first(self, count: int) -> Batch:
        """The first samples; see `cut`."""
        return self.cut(slice(0, count))

    def cut(self, samples: slice) -> Batch:
        """Some of the samples; parts of the target without an entry for each one stay whole."""
        return Batch(tuple(x[samples] for x in self.inputs), _part(self.target, samples, len(self)))

    def parts(self, size: int | None) -> list[Batch]:
        """The batch in equal pieces of at most `size` samples; itself without a size.

        Raises:
            DataError: The target has no entry for each sample.
        """
        if size is None or len(self) <= size:
            return [self]
        ends = np.linspace(0, len(self), math.ceil(len(self) / size) + 1).round().astype(int)
        return [self.part(slice(a, b)) for a, b in itertools.pairwise(ends.tolist())]


def make_batch(picked: tuple[Any, Any], names: Sequence[str] = ()) -> Batch:
    """A batch of what a loader yields.

    Images of type uint8 are scaled to 0..1, other inputs become float32, integers of 32 bits and
    more stay as they are. Targets of integers become int64.

    Args:
        picked: Inputs (a tensor, or several in a list, tuple or dictionary), and the target.
        names: Parameters of the network's forward pass, which give inputs in a dictionary their
            order.

    Raises:
        DataError: The inputs are not tensors with the samples on axis 0.
    """
    inputs, target = picked
    return Batch(tuple(as_input(x) for x in _in_order(inputs, names)), _as_target(target))


def pick_pair(sample: Any) -> tuple[Any, Any]:
    """Inputs and target of a sample: a pair, a longer tuple that begins with the two, or a
    dictionary with usual keys.

    Fields of a named tuple are read by their names where these are usual.

    Raises:
        DataError: The sample has another form; the message names it.
    """
    if hasattr(sample, "_asdict") and any(key in sample._fields for key in _INPUT_KEYS):
        sample = sample._asdict()
    if isinstance(sample, Mapping):
        return sample[_key(sample, _INPUT_KEYS)], sample[_key(sample, _TARGET_KEYS)]
    if isinstance(sample, (tuple, list)) and len(sample) >= 2:
        return sample[0], sample[1]
    raise DataError(
        f"The data yield {describe(sample)}, not pairs of images and labels.", ACCEPTED_FORMS
    )


def picker(inputs: str | tuple[str, ...] | None, target: str | None) -> Pick:
    """A function that picks the values under keys of a dictionary.

    Args:
        inputs: Key of the input, or of several in the order of the network's forward pass; the
            usual key by default.
        target: Key of the target; the usual one by default.
    """

    def pick(sample: Any) -> tuple[Any, Any]:
        if not isinstance(sample, Mapping):
            raise DataError(
                f"The data yield {describe(sample)}, which has no keys.",
                "Give `pick`, a function of the sample that returns inputs and target.",
            )
        keys = (inputs,) if isinstance(inputs, str) else inputs
        found = [_value(sample, key) for key in keys or (_key(sample, _INPUT_KEYS),)]
        wanted = _key(sample, _TARGET_KEYS) if target is None else target
        return (found[0] if len(found) == 1 else tuple(found)), _value(sample, wanted)

    return pick


def as_input(x: Any) -> Tensor:
    """An input of a network.

    Raises:
        DataError: It is no tensor.
    """
    if not torch.is_tensor(x):
        raise DataError(
            f"An input is {describe(x)}, not a tensor.",
            "Let the data set return tensors, or give `Samples(data, image_size=...)` for images.",
        )
    if x.dtype == torch.uint8:
        return x.float() / 255
    return x if x.dtype in (torch.int32, torch.int64) else x.float()


def describe(value: Any) -> str:
    """Structure of a value, with the shapes of tensors, for messages."""
    if torch.is_tensor(value):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dictionary of {', '.join(f'{key!r}' for key in list(value)[:8])}"
    if value is None:
        return "None"
    if isinstance(value, (tuple, list)):
        kind = type(value).__name__
        parts = ", ".join(describe(part) for part in value[:4])
        return f"a {kind} of {parts}{', ...' if len(value) > 4 else ''}"
    return f"a {type(value).__name__}"


def summary(target: Any) -> str:
    """Structure of a target, for messages, with the range of its values where it is a tensor."""
    if not torch.is_tensor(target) or not target.numel() or target.is_complex():
        return describe(target)
    return f"{describe(target)} from {target.min().item():g} to {target.max().item():g}"


def _key(sample: Mapping[str, Any], usual: Sequence[str]) -> str:
    found = [key for key in usual if key in sample]
    if not found:
        raise DataError(
            f"The data yield {describe(sample)}; none of the keys is one of {', '.join(usual)}.",
            "Name the keys: `Samples(data, inputs=..., target=...)`.",
        )
    return found[0]


def _value(sample: Mapping[str, Any], key: str) -> Any:
    if key not in sample:
        raise DataError(f"The data yield {describe(sample)}, without {key!r}.", "Correct the key.")
    return sample[key]


def _in_order(inputs: Any, names: Sequence[str]) -> tuple[Any, ...]:
    if not isinstance(inputs, Mapping):
        return tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    if not set(inputs) <= set(names):
        raise DataError(
            f"The inputs are {describe(inputs)}, and the network's forward pass takes "
            f"{', '.join(names) or 'others'}.",
            "Give them under the names of its parameters, or as a tuple in its order.",
        )
    return tuple(inputs[name] for name in names if name in inputs)


def _as_target(target: Any) -> Any:
    if torch.is_tensor(target) and not target.is_floating_point() and not target.is_complex():
        return target.long()
    return target


def _part(target: Any, samples: slice, length: int) -> Any:
    """Samples of a target; its parts without an entry for each sample stay whole."""
    if torch.is_tensor(target):
        return target[samples] if target.dim() and len(target) == length else target
    if isinstance(target, Mapping):
        return {key: _part(value, samples, length) for key, value in target.items()}
    if isinstance(target, (tuple, list)):
        if _is_by_sample(target, length):
            return target[samples]
        parts = [_part(x, samples, length) for x in target]
        return target._make(parts) if hasattr(target, "_make") else type(target)(parts)
    return target


def _has_entries(target: Any, length: int) -> bool:
    """Whether everything in a target that has a length has an entry for each sample."""
    if torch.is_tensor(target):
        return not target.dim() or len(target) == length
    if isinstance(target, Mapping):
        return all(_has_entries(value, length) for value in target.values())
    if isinstance(target, (tuple, list)):
        by_sample = _is_by_sample(target, length)
        return by_sample or all(_has_entries(value, length) for value in target)
    return target is None or isinstance(target, (int, float, str, bytes))


def _is_by_sample(target: Sequence[Any], length: int) -> bool:
    """Whether a list holds the target of each sample, such as the boxes of each image, and not
    targets of different kinds with entries for each sample.
    """
    if len(target) != length or hasattr(target, "_make"):
        return False
    are_kinds = all(torch.is_tensor(x) and x.dim() and len(x) == length for x in target)
    # more kinds than that are rarer than as many boxes as images
    return not are_kinds or (isinstance(target, list) and length > _MOST_KINDS)
