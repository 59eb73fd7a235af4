"""Two forms of a smaller model, and the check that a removal is correct."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn

from latency_service.core.arrays import Array, Ints
from latency_service.spaces.plan import Keep
from latency_service.spaces.schemas import Segment
from latency_service.spaces.slicing import cut, kept_positions, with_values
from latency_service.spaces.weightless import settings_of
from pruning_client.execution.copies import copied
from pruning_client.graph import proof
from pruning_client.graph.adoption import adopt_channels, correct_counts
from pruning_client.graph.chance import in_mode
from pruning_client.graph.decisions import decided_by
from pruning_client.graph.export import tensors
from pruning_client.graph.graph_network import GraphNetwork
from pruning_client.graph.silence import ClosedTwin
from pruning_client.graph.traced import GraphForm, Traced

#: Fault of a graph in which zeros of a closed gate do not stay zeros.
LEAK = "closing a gate is not the same as removing the channel"

#: Fault of a network of which nothing can be proven.
RANDOM = (
    "the network is random in eval mode, so that no two of its outputs can be compared: let it "
    "draw random numbers in training mode only"
)

#: Maximum number of twins, if gates change no output of those before.
TWINS = 4
#: Number of draws of random weights that are tried for a twin.
_DRAWS = 3

Operation = Callable[[nn.Module, Traced, Keep], nn.Module]


def draw_closed_twin(model: nn.Module, traced: Traced, keep: Keep) -> ClosedTwin | str:
    """A copy of the model with random weights with which a removal can be proven, or why there is
    none: the dense network must compute the same in torch and in the graph.

    Of several draws it is the one whose outputs depend on most of the width groups.

    Args:
        keep: Channels that stay.
    """
    dense = traced.modes[0][1]
    best: ClosedTwin | None = None
    seed = 0
    for _ in range(TWINS):
        twin, fault = draw_proven_twin(model, dense, traced.example, seed)
        if fault is not None:
            return fault if best is None else best
        closed = ClosedTwin(twin=twin, gates=traced.gates, keep=keep, inputs=traced.example)
        if best is None or len(closed.silent) < len(best.silent):
            best = closed
        if not closed.silent:
            break
        seed = twin.seed + 1
    assert best is not None, "at least one twin is drawn"
    return best


def draw_proven_twin(
    model: nn.Module, dense: GraphForm, example: tuple[Tensor, ...], first_seed: int = 0
) -> tuple[proof.Twin, str | None]:
    """A twin of the model, and why no removal can be proven with it.

    Args:
        dense: Graph of eval mode, used at full width.
        example: Inputs [B, ...] on the CPU.
        first_seed: Seed of the first draw.
    """
    settings = settings_of(dense.space.model)
    scalars = {name for name, value in tensors(model) if not value.dim()}
    draws = [(seed, settings) for seed in range(first_seed, first_seed + _DRAWS)]
    # a scalar may be a part of a setting, such as of an exponent
    for seed, kept in [*draws, (first_seed, settings | scalars)]:
        twin = proof.draw_twin(model, example, seed, kept)
        weights = proof.weights_of(twin.model, dense.weights)
        graph, values = cut(dense.space, dense.space.full_widths, weights=weights)
        names = decided_by(graph)
        try:
            found = proof.result_of_graph(graph, example, names, values)
        except Exception as error:  # noqa: BLE001 the runtime refuses a wrong graph in many ways
            return twin, f"the exported graph of the whole network does not run: {error}"
        candidates = dict(zip(names, found.decided, strict=True))
        proven = twin.proven(found.outputs, candidates)
        if proven is None:
            twin = proof.run_again(twin, example)
            proven = twin.proven(found.outputs, candidates)
        if proven is not None:
            return proven, None
    again = proof.run_torch(twin.model, example)
    if not all(map(functools.partial(np.array_equal, equal_nan=True), twin.outputs, again)):
        return twin, RANDOM
    fault = (
        f"with none of {_DRAWS} draws of random weights the whole network and its exported graph "
        "compute the same, so that nothing can be proven by them"
    )
    return twin, fault


def removal_fault(closed: ClosedTwin, traced: Traced) -> str | None:
    """Reason why channels cannot be removed from a model with random weights, or None."""
    form = find_form(closed, traced)
    return form if isinstance(form, str) else None


def find_form(closed: ClosedTwin, traced: Traced) -> Operation | str:
    """Form of the smaller model whose outputs equal those of closed gates, or why there is none.

    Raises:
        WidthsError: The channels to keep do not fit the space's groups.
    """
    twin, keep = closed.twin, closed.keep
    wanted = []
    for training, graph in traced.modes:
        smaller, values = _smaller(twin.model, graph, keep)
        names = [] if training else list(twin.decisions)
        try:
            found = proof.result_of_graph(smaller, traced.example, names, values)
        except Exception as error:  # noqa: BLE001 the runtime refuses a wrong graph in many ways
            return f"the graph does not run without them: {error}"
        gated = _result_in_training_mode(closed) if training else closed.result
        if not twin.agree(found, gated):
            return LEAK
        wanted.append(found)
    for form in _FORMS:
        if _works(form, twin, traced, keep, wanted):
            return form
    return "the forward pass holds their number, and a smaller form of it computes something else"


def _result_in_training_mode(closed: ClosedTwin) -> proof.Result:
    with (
        proof.gated(closed.twin.model, closed.gates, closed.keep) as gated,
        in_mode(gated, training=True),
    ):
        return proof.result_of(gated, closed.inputs)


def _smaller(model: nn.Module, graph: GraphForm, keep: Keep) -> tuple[ModelProto, dict[str, Array]]:
    """The graph of the smaller model, and the weights of `model` at the channels to keep."""
    widths = [len(channels) for channels in keep]
    weights = proof.weights_of(model, graph.weights)
    return cut(graph.space, widths, keep=keep, weights=weights)


def _works(
    form: Operation, twin: proof.Twin, traced: Traced, keep: Keep, wanted: list[proof.Result]
) -> bool:
    try:
        small = form(twin.model, traced, keep)
        found = []
        for training, _ in traced.modes:
            with in_mode(small, training=training):
                found.append(proof.result_of(small, traced.example))
        return all(twin.agree(a, b) for a, b in zip(wanted, found, strict=True))
    except Exception:  # noqa: BLE001 the user's forward pass may fail in any way on other shapes
        return False


def slim_modules(model: nn.Module, traced: Traced, keep: Keep) -> nn.Module:
    """The model's own class with smaller modules, for a forward pass without channel counts."""
    small = _with_smaller_tensors(model, traced, keep)
    adopt_channels(small, traced)
    return small


def _with_smaller_tensors(model: nn.Module, traced: Traced, keep: Keep) -> nn.Module:
    return with_tensors_at(model, traced, lambda segments: kept_positions(segments, keep))


def with_tensors_at(
    model: nn.Module, traced: Traced, positions: Callable[[Sequence[Segment]], Ints]
) -> nn.Module:
    """A copy of the model whose tensors have other positions on the axes of width groups, and
    modules whose attributes fit them.

    Args:
        positions: Positions to take, given the segments of an axis; one may be taken again.
    """
    own = dict(tensors(model))
    cuts: dict[str, dict[int, Ints]] = {}
    for _, graph in traced.modes:
        for entry in graph.space.manifest.slices:
            if entry.initializer in own:
                cuts.setdefault(entry.initializer, {})[entry.axis] = positions(entry.segments)
    small = copied(model, shared=[own[name] for name in cuts])
    names: dict[int, list[str]] = {}
    for name, value in tensors(small):
        names.setdefault(id(value), []).append(name)
    for name, axes in cuts.items():
        smaller = _select(own[name], axes.items())
        for alias in names[id(own[name])]:
            _replace(small, alias, smaller)
    for module in small.modules():
        correct_counts(module)
    return small


def _select(value: Tensor, axes: Iterable[tuple[int, Ints]]) -> Tensor:
    chosen = value.detach()
    for axis, index in axes:
        chosen = chosen.index_select(axis, torch.as_tensor(index, device=value.device))
    channels_last = not value.is_contiguous() and value.is_contiguous(
        memory_format=torch.channels_last
    )
    chosen = chosen.contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    return nn.Parameter(chosen, value.requires_grad) if isinstance(value, nn.Parameter) else chosen


def _replace(model: nn.Module, name: str, value: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, value)


def slim_graph(model: nn.Module, traced: Traced, keep: Keep) -> nn.Module:
    """The traced graphs as a module with updated shapes, for a forward pass with channel counts."""
    small = _with_smaller_tensors(model, traced, keep)
    graphs = [
        (with_values(*_smaller(model, graph, keep)), graph.structure) for _, graph in traced.modes
    ]
    return GraphNetwork(small, graphs)


#: Forms to try in order: the user's own class first, then the graph.
_FORMS: tuple[Operation, ...] = (slim_modules, slim_graph)
