"""What the result of a method has to be like."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Floats, Ints
from pruning_client.methods import allocation
from pruning_client.methods.base import Context, Picture, Selection, best_channels
from pruning_client.testing.errors import ConformanceError, require

#: First bytes of a PNG file.
_PNG = b"\x89PNG\r\n\x1a\n"
#: Budgets, as shares of the method's, that the scores are allocated to anew.
_CORRECTIONS = (0.9, 1.1)


@dataclass(frozen=True, kw_only=True)
class State:
    """Structure of a network."""

    #: Class, shape and whether it is trained, of every tensor by name.
    tensors: dict[str, tuple[torch.dtype, torch.Size, bool]]
    #: Class and number of hooks of every module by name.
    modules: dict[str, tuple[type[nn.Module], int]]


def state_of(model: nn.Module) -> State:
    """The present structure of a network."""
    tensors: dict[str, Tensor] = dict(model.named_parameters()) | dict(model.named_buffers())
    return State(
        tensors={
            name: (value.dtype, value.shape, value.requires_grad) for name, value in tensors.items()
        },
        modules={name: (type(one), _hooks(one)) for name, one in model.named_modules()},
    )


def check_model(model: nn.Module, before: State) -> None:
    """The structure is unchanged, and every value is finite."""
    after = state_of(model)
    for kind in ("tensors", "modules"):
        old, new = getattr(before, kind), getattr(after, kind)
        require(old.keys() == new.keys(), f"{kind} have come or gone: {old.keys() ^ new.keys()}")
        for name, value in old.items():
            require(new[name] == value, f"{kind[:-1]} {name!r} was {value} and is {new[name]}")
    for name, tensor in model.state_dict().items():
        finite = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
        require(finite, f"{name!r} holds values that are not finite")


def check_selection(selection: Selection, context: Context) -> None:
    """Widths, channels, scores and history are as a job needs them."""
    groups = context.traced.space.groups
    require(len(selection.keep) == len(groups), f"{len(selection.keep)} groups of {len(groups)}")
    require(len(selection.scores) == len(groups), "there are not scores of every group")
    for g, group in enumerate(groups):
        choices = context.predictor.lattice[g]
        _check_channels(selection.keep[g], group.width, group.name)
        _check_width(selection.keep[g], choices, group.minimum, group.name)
        _check_scores(selection.scores[g], group.width, group.name)
    latency = context.predictor.one_ms(selection.widths)
    fault = f"predicted are {latency:.6g} ms for a target of {context.target_ms:.6g} ms"
    require(latency <= context.target_ms, fault)
    _check_agreement(selection)
    _check_corrections(selection, context)
    _check_report(selection)


def _check_channels(keep: Ints, width: int, name: str) -> None:
    index = np.asarray(keep)
    require(index.dtype.kind in "iu", f"channels of {name!r} have the type {index.dtype}")
    require(bool((np.diff(index) > 0).all()), f"channels of {name!r} are not ascending")
    inside = len(index) > 0 and index[0] >= 0 and index[-1] < width
    require(bool(inside), f"channels of {name!r} are not in 0 to {width - 1}: {index.tolist()}")


def _check_width(keep: Ints, choices: Sequence[int], minimum: int, name: str) -> None:
    width = len(keep)
    require(width in choices, f"the width {width} of {name!r} is not on the lattice {choices}")
    require(width >= minimum, f"the width {width} of {name!r} is below the minimum {minimum}")


def _check_scores(score: Floats, width: int, name: str) -> None:
    values = np.asarray(score)
    require(values.shape == (width,), f"scores of {name!r} have the shape {values.shape}")
    require(values.dtype.kind == "f", f"scores of {name!r} have the type {values.dtype}")
    require(bool(np.isfinite(values).all()), f"scores of {name!r} are not finite")
    require(bool((values > 0).all()), f"scores of {name!r} are not positive")


def _check_agreement(selection: Selection) -> None:
    """A job derives the channels from scores and widths."""
    best = best_channels(selection.scores, selection.widths)
    for g, (kept, expected) in enumerate(zip(selection.keep, best, strict=True)):
        fault = (
            f"group {g} keeps {list(map(int, kept))}, and the highest scores are those of "
            f"{expected.tolist()}; a job keeps the channels with the highest scores"
        )
        require(np.array_equal(kept, expected), fault)


def _check_corrections(selection: Selection, context: Context) -> None:
    """Scores are comparable between groups: widths can be corrected by them."""
    predictor = context.predictor
    for factor in _CORRECTIONS:
        target_ms = max(factor * context.target_ms, predictor.sidecar.lowest_ms)
        widths = allocation.fit(
            selection.widths, selection.scores, predictor.latency_ms, predictor.lattice, target_ms
        )
        fault = f"widths corrected to {target_ms:.6g} ms by the scores exceed it: {widths}"
        require(predictor.one_ms(widths) <= target_ms, fault)


def _check_report(selection: Selection) -> None:
    """What a method tells of its work fits into reports and comparisons."""
    for name in ("history", "facts", "notes"):
        try:
            json.dumps(getattr(selection, name), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConformanceError(f"the {name} cannot be put into a report: {error}") from error
    for picture in selection.pictures:
        is_png = isinstance(picture, Picture) and picture.png.startswith(_PNG)
        require(is_png, f"a picture is not a `Picture` with the content of a PNG file: {picture}")


def check_same(
    one: tuple[Selection, nn.Module], other: tuple[Selection, nn.Module], of: str
) -> None:
    """Two results are equal."""
    for kind in ("keep", "scores"):
        pairs = zip(getattr(one[0], kind), getattr(other[0], kind), strict=True)
        same = all(np.array_equal(a, b) for a, b in pairs)
        require(same, f"{of} gives another selection ({kind})")
    after = other[1].state_dict()
    for name, value in one[1].state_dict().items():
        require(torch.equal(value, after[name]), f"{of} gives other weights ({name!r})")


def _hooks(module: nn.Module) -> int:
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return sum(map(len, hooks))
