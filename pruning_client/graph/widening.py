"""Networks with more channels that compute the same: the mirror of removal.

The channels of a width group are duplicated, and the weights that read them are split between the
copies (Chen et al., "Net2Net", ICLR 2016, the wider network). Net2Net halves them and adds noise,
so that the copies learn different things; here each weight is split in random shares, which keeps
the outputs and makes the copies' gradients differ all the same [ours].
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor, nn

from latency_service.core.arrays import Array, Ints
from latency_service.spaces.plan import expand
from latency_service.spaces.schemas import Segment
from latency_service.spaces.slicing import resized
from latency_service.spaces.weightless import is_weightless
from pruning_client.errors import UsageError
from pruning_client.graph import comparison, proof
from pruning_client.graph.adoption import adopt_channels
from pruning_client.graph.errors import WideningError
from pruning_client.graph.export import Example, tensors
from pruning_client.graph.graph_network import GraphNetwork
from pruning_client.graph.modules import PRODUCERS, TRANSPOSED
from pruning_client.graph.removal import draw_closed_twin, with_tensors_at
from pruning_client.graph.space import make_space
from pruning_client.graph.traced import GraphForm, Traced

#: Number of copies of each channel of each width group [G][C], at least 1.
Copies = Sequence[Ints]

#: Largest difference of the outputs, relative to the largest of them.
TOLERANCE = 1e-4
#: Smallest and largest part of a weight that a copy gets, before the parts are divided by their
#: sum.
_PARTS = (0.5, 1.5)


def widen(model: nn.Module, example: Example, *, factor: float = 2.0, seed: int = 0) -> nn.Module:
    """A copy of a model with `factor` times as many channels in each width group, which computes
    the same.

    It has the model's own class, unless the forward pass hard-codes channel counts: then it is a
    `GraphNetwork` of the traced graph with the same names, as for `slim`. Channels that
    cannot be pruned are not widened either.

    Args:
        example: A batch that the model takes, or a tuple of them.
        factor: At least 1; 1.5 gives every second channel a copy.
        seed: Seed of the shares in which weights are split.

    Raises:
        UsageError: The factor is below 1.
        ExportError: The model cannot be traced.
        WideningError: No form of the wider model has the outputs of the given one.
    """
    return widened(model, make_space(model, example), factor=factor, seed=seed)


def widened(model: nn.Module, traced: Traced, *, factor: float = 2.0, seed: int = 0) -> nn.Module:
    """`widen` of a model that was traced before."""
    if not factor >= 1:
        raise UsageError(
            f"A network cannot be widened by a factor of {factor}.", "Give 1 or more, such as 2."
        )
    copies = copies_of(traced, factor)
    keep = [np.arange(width) for width in traced.space.full_widths]
    closed = draw_closed_twin(model, traced, keep)
    if isinstance(closed, str):
        raise WideningError(f"{type(model).__name__} cannot be widened: {closed}.", _CURE)
    for form in _FORMS:
        if _computes_the_same(form, closed.twin.model, traced, copies, seed):
            return form(model, traced, copies, seed)
    raise WideningError(
        f"{type(model).__name__} cannot be widened: its forward pass holds the number of channels, "
        "or orders them in a way that copies do not follow.",
        _CURE,
    )


_CURE = "Write the forward pass without channel counts, or give the wider network yourself."


def copies_of(traced: Traced, factor: float) -> list[Ints]:
    """Copies of each channel [G][C] that make every group `factor` times as wide, spread evenly."""
    return [
        np.diff(np.floor(factor * np.arange(group.width + 1) + 1e-9)).astype(np.int64)
        for group in traced.space.groups
    ]


def widths_before(given: Traced, wide: Traced) -> list[int]:
    """Widths [G] at which the wider network is the given one, at least the minima."""
    known = {group.name: group.width for group in given.space.groups}
    return [max(group.minimum, known.get(group.name, group.width)) for group in wide.space.groups]


def _source(copies: Copies, segments: Sequence[Segment]) -> Ints:
    """Position that each position of a wider axis comes from.

    The copies of a channel follow it: all positions of the channel that lie side by side, then all
    of its first copy.
    """
    found = []
    start = 0
    for segment in segments:
        _, channels = expand([segment])
        positions = start + np.arange(len(channels))
        blocks = positions.reshape(segment.count, segment.repeat)
        if segment.group >= 0:
            times = copies[segment.group][channels[:: segment.repeat]]
            blocks = np.repeat(blocks, times, axis=0)
        found.append(blocks.ravel())
        start += len(channels)
    return np.concatenate([np.zeros(0, np.int64), *found])


Form = Callable[[nn.Module, Traced, Copies, int], nn.Module]


def wide_modules(model: nn.Module, traced: Traced, copies: Copies, seed: int) -> nn.Module:
    """The model's own class with larger modules."""
    wide = _with_larger_tensors(model, traced, copies, seed)
    adopt_channels(wide, traced)
    return wide


def wide_graph(model: nn.Module, traced: Traced, copies: Copies, seed: int) -> nn.Module:
    """The traced graphs as a module with updated shapes."""
    wide = _with_larger_tensors(model, traced, copies, seed)
    graphs = [(_larger(wide, form, copies), form.structure) for _, form in traced.modes]
    return GraphNetwork(wide, graphs)


#: Forms to try in order.
_FORMS: tuple[Form, ...] = (wide_modules, wide_graph)


def _with_larger_tensors(model: nn.Module, traced: Traced, copies: Copies, seed: int) -> nn.Module:
    wide = with_tensors_at(model, traced, functools.partial(_source, copies))
    slices = {
        (entry.initializer, entry.axis): entry.segments
        for _, form in traced.modes
        for entry in form.space.manifest.slices
    }
    random = torch.Generator().manual_seed(seed)
    split: set[int] = set()
    for name, module in wide.named_modules():
        axis = _input_axis(module)
        segments = slices.get((f"{name}.weight" if name else "weight", axis))
        weight = getattr(module, "weight", None)
        if segments is not None and isinstance(weight, Tensor) and id(weight) not in split:
            split.add(id(weight))
            _split(weight, axis, torch.from_numpy(_source(copies, segments)), random)
    return wide


def _input_axis(module: nn.Module) -> int:
    """Axis of a layer's weight over whose positions its inputs are summed, or -1."""
    if isinstance(module, TRANSPOSED):
        # of several groups each has its own inputs, and is copied as a whole
        return 0 if module.groups == 1 else -1
    return 1 if isinstance(module, PRODUCERS) else -1


@torch.no_grad()
def _split(weight: Tensor, axis: int, source: Tensor, random: torch.Generator) -> None:
    """Divide the weights of the inputs that come from one position between them, in place."""
    low, high = _PARTS
    parts = low + (high - low) * torch.rand(weight.shape, generator=random, dtype=torch.float64)
    parts = parts.movedim(axis, 0)
    totals = torch.zeros(int(source.max()) + 1, *parts.shape[1:], dtype=torch.float64)
    totals.index_add_(0, source, parts)
    shares = (parts / totals[source]).movedim(0, axis)
    weight.copy_((weight.double().cpu() * shares).to(weight))


def _larger(wide: nn.Module, form: GraphForm, copies: Copies) -> ModelProto:
    """The graph of the wider model, with the weights of `wide`."""
    space = form.space
    own = {name: value.detach().cpu().numpy() for name, value in tensors(wide)}
    axes: dict[str, list[tuple[int, Ints]]] = {}
    for entry in space.manifest.slices:
        axes.setdefault(entry.initializer, []).append((entry.axis, _source(copies, entry.segments)))
    arrays: dict[str, Array] = {}
    for tensor in space.template.graph.initializer:
        if tensor.name in own:
            arrays[tensor.name] = own[tensor.name]
        elif is_weightless(tensor) or tensor.name in axes:
            known = form.weights[tensor.name] if is_weightless(tensor) else None
            array = numpy_helper.to_array(tensor) if known is None else known
            for axis, source in axes.get(tensor.name, ()):
                array = np.take(array, source, axis=axis)
            arrays[tensor.name] = array
    # the last entry of the mask counts positions that are never removed
    times = np.concatenate([*copies, np.ones(1, np.int64)])
    counts = [int(times[run].sum()) for run in space.plan.runs]
    larger = resized(space, counts, arrays)
    values = {(value.initializer, value.index): counts[run] for value, run in space.plan.values}
    for tensor in larger.graph.initializer:
        if tensor.data_type == TensorProto.INT64 and tensor.name in axes:
            positions = _positions(
                tensor.name, arrays[tensor.name], axes[tensor.name][0][1], values
            )
            tensor.CopyFrom(numpy_helper.from_array(positions, tensor.name))
    return larger


def _positions(
    name: str, given: Array, source: Ints, values: Mapping[tuple[str | None, int | None], int]
) -> Ints:
    """Positions that a list of positions of channels has for them and their copies.

    Args:
        given: Positions before, repeated for the copies.
        source: Element of the list before that each comes from.
        values: Number of positions before the first copy, by name and element of a list.
    """
    first = [values.get((name, at), int(was)) for at, was in zip(source, given, strict=True)]
    starts = np.concatenate([[True], np.diff(source) != 0])
    runs = np.arange(len(source))
    return np.array(first) + runs - np.maximum.accumulate(np.where(starts, runs, 0))


def _computes_the_same(
    form: Form, model: nn.Module, traced: Traced, copies: Copies, seed: int
) -> bool:
    """Whether a form of the wider model has the outputs of a model with random weights, which hide
    no fault.
    """
    try:
        wide = form(model, traced, copies, seed).eval()
        found = proof.run_torch(wide, traced.example)
    except Exception:  # noqa: BLE001 the user's forward pass may fail in any way on other shapes
        return False
    return agree(proof.run_torch(model, traced.example), found)


def agree(wanted: comparison.Arrays, found: comparison.Arrays) -> bool:
    """Whether two lists of outputs are finite and equal within `TOLERANCE`."""
    if [x.shape for x in wanted] != [x.shape for x in found]:
        return False
    return all(
        np.isfinite(y).all()
        and np.abs(x - y).max(initial=0) <= TOLERANCE * max(1.0, np.abs(x).max(initial=0))
        for x, y in zip(wanted, found, strict=True)
    )
