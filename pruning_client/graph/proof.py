"""Proof by execution: with random weights, removing channels must equal closing their gates."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor, nn

from latency_service.core.arrays import Array, Floats32, Ints
from latency_service.spaces.plan import Keep
from latency_service.spaces.slicing import SearchSpace
from latency_service.spaces.weightless import without_initializers
from pruning_client.execution.copies import copied
from pruning_client.graph.comparison import TOLERANCE, Arrays, agree, difference
from pruning_client.graph.decisions import Decisions
from pruning_client.graph.export import tensors
from pruning_client.graph.modes import structure_of
from pruning_client.graph.modules import PRODUCERS, GatePoint

#: A twin on which torch and ONNX Runtime nearly agree shows smaller faults, such as those of
#: channels on which the outputs hardly depend: tolerance in multiples of their difference, and
#: its least value.
_TOLERATED_NOISE = 100
_LEAST_TOLERANCE = 2e-5
#: Number of values from which a weight is an input of the graph that is run.
_LARGE = 256


def redrawn(
    model: nn.Module,
    seed: int = 0,
    example: Sequence[Tensor] = (),
    settings: Collection[str] = (),
) -> nn.Module:
    """A copy on the CPU, in eval mode, with random weights and statistics.

    A trained or fresh network can hide a wrong removal, for example behind batch norms whose scale
    starts at zero.

    Args:
        example: Inputs [B, ...] on which the weights of convolutions and linear layers are scaled
            in turn to outputs of unit mean square: products of branches would overflow otherwise.
        settings: Names of tensors that keep their values, such as exponents and bounds: few
            others are valid.
    """
    twin = copied(model).cpu().eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in tensors(twin):
            if value.is_floating_point() and name not in settings:
                _draw(name, value, random)
    if example:
        _calibrate(twin, example)
    return twin


def _draw(name: str, value: Tensor, random: torch.Generator) -> None:
    if value.dim() > 1:
        value.normal_(generator=random).mul_((2 / max(1, value[0].numel())) ** 0.5)
    elif name.endswith(("running_var", "weight")) or bool((value > 0).all()):
        value.uniform_(0.5, 1.5, generator=random)
    else:
        value.normal_(0.0, 0.3, generator=random)


def _calibrate(model: nn.Module, example: Sequence[Tensor]) -> Any:
    """Scale the weights of each convolution and linear layer to outputs of unit mean square.

    Returns:
        Outputs of the network with these weights, where each is used once and by its own layer.
    """
    scaled: set[int] = set()

    def scale(module: nn.Module, _inputs: object, output: Tensor) -> Tensor | None:
        weight = module._parameters.get("weight")
        size = float(output.square().mean().sqrt())
        if weight is None or id(weight) in scaled or not 0 < size < math.inf:
            return None
        scaled.add(id(weight))
        for parameter in module.parameters(recurse=False):
            parameter.div_(size)
        return output / size

    producers = [module for module in model.modules() if isinstance(module, PRODUCERS)]
    with hooked((module, scale) for module in producers), torch.no_grad():
        return model(*example)


@contextlib.contextmanager
def hooked(hooks: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Call forward hooks of modules while the block runs."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a network computes."""

    #: Outputs, flattened in the order of the export.
    outputs: Arrays
    #: What its decisions are made of.
    decided: Arrays


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A copy of a model with random weights, which hide no wrong removal."""

    #: Seed of the weights.
    seed: int
    #: Copy on the CPU, in eval mode.
    model: nn.Module
    #: Outputs of the dense network for the example, with an `Output` for each tensor.
    structure: Any
    #: Outputs as arrays, flattened in the order of the export.
    outputs: Arrays
    #: Modules that the forward pass calls; weights of others are used by themselves.
    called: frozenset[nn.Module] = frozenset()
    #: What the decisions of the forward pass are made of.
    decided: Arrays = dataclasses.field(default_factory=list)
    #: Names of those in the graph, with their places in `decided`.
    decisions: Mapping[str, int] = dataclasses.field(default_factory=dict)
    #: Maximum difference relative to the outputs.
    tolerance: float = TOLERANCE
    #: Whether outputs are compared by their own spread, not by 1 where they are smaller.
    fine: bool = True

    def result(self, inputs: Sequence[Tensor]) -> Result:
        """What the copy computes, with the decisions that the graph has."""
        found = result_of(self.model, inputs)
        decided = [found.decided[place] for place in self.decisions.values()]
        return Result(outputs=found.outputs, decided=decided)

    def agree(self, wanted: Result, found: Result) -> bool:
        """Whether a network with these weights computes what a graph does, and decides by it."""
        same = functools.partial(agree, tolerance=self.tolerance, fine=self.fine)
        return same(wanted.outputs, found.outputs) and all(
            any(same([x.ravel()], [y.ravel()]) for y in found.decided if x.size == y.size)
            for x in wanted.decided
        )

    def proven(self, found: Arrays, candidates: Mapping[str, Floats32]) -> Twin | None:
        """The twin with the tolerance that follows from what the exported graph computes, or None
        if that is something else.

        Args:
            found: Outputs of the graph of the whole network.
            candidates: What its decisions may be made of, by name.
        """
        # outputs that are the rounding noise of zero agree only coarsely
        fine = agree(found, self.outputs, fine=True)
        if not fine and not agree(found, self.outputs):
            return None
        pairs = zip(found, self.outputs, strict=True)
        noise = max((difference(x, y, fine=fine) for x, y in pairs), default=0.0)
        tolerance = min(TOLERANCE, max(_LEAST_TOLERANCE, _TOLERATED_NOISE * noise))
        decisions = {
            name: place
            for name, x in candidates.items()
            if (place := _place(x, self.decided)) is not None
        }
        return dataclasses.replace(self, tolerance=tolerance, fine=fine, decisions=decisions)


def _place(x: Floats32, decided: Arrays) -> int | None:
    """The first of the arrays that a network decides by with the values of `x`, in any shape."""
    places = (
        index
        for index, y in enumerate(decided)
        if x.size == y.size and x.dtype.kind == "f" and agree([x.ravel()], [y.ravel()], fine=True)
    )
    return next(places, None)


def draw_twin(
    model: nn.Module,
    example: Sequence[Tensor],
    seed: int = 0,
    settings: Collection[str] = (),
) -> Twin:
    """A calibrated copy of a model with random weights, and what it computes."""
    twin = redrawn(model, seed, settings=settings)
    called: set[nn.Module] = set()

    def note(module: nn.Module, *_: object) -> None:
        called.add(module)

    with hooked((module, note) for module in twin.modules()), Decisions() as decisions:
        outputs = _calibrate(twin, example)
    return Twin(
        seed=seed,
        model=twin,
        structure=structure_of(outputs),
        outputs=arrays(outputs),
        called=frozenset(called),
        decided=arrays(decisions.found),
    )


def run_again(twin: Twin, example: Sequence[Tensor]) -> Twin:
    """The twin with what it computes once it is calibrated: weights that several layers share, or
    that are used without their layer, are scaled in the middle of the forward pass.
    """
    found = result_of(twin.model, example)
    return dataclasses.replace(twin, outputs=found.outputs, decided=found.decided)


def weights_of(model: nn.Module, dense: Mapping[str, Array]) -> dict[str, Array]:
    """Values by initializer name: the model's tensors, scalars as well, and the graph's constants
    from `dense`.
    """
    own = {
        name: value.detach().cpu().numpy()
        for name, value in tensors(model)
        if value.is_floating_point()
    }
    return {**dense, **own}


def run_onnx(
    model: ModelProto,
    inputs: Sequence[Tensor],
    more: Iterable[str] = (),
    values: Mapping[str, Array] | None = None,
) -> Arrays:
    """Outputs of an ONNX graph on ONNX Runtime's CPU provider.

    Args:
        more: Names of tensors of the graph to return behind its outputs.
        values: Values of its initializers by name, where they are not in the graph.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    names = [entry.name for entry in model.graph.input]
    bare, weights = _with_weights_as_inputs(model, values or {})
    bare.graph.output.extend(ValueInfoProto(name=name) for name in more)
    session = onnxruntime.InferenceSession(
        bare.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
    return list(session.run(None, feed | weights))


def _with_weights_as_inputs(
    model: ModelProto, values: Mapping[str, Array]
) -> tuple[ModelProto, dict[str, Array]]:
    """A graph that takes its large weights as inputs, and their values: inside the file each would
    be copied several times on the way to the runtime.
    """
    bare = without_initializers(model)
    weights = {}
    for tensor in model.graph.initializer:
        value = values.get(tensor.name)
        is_float = tensor.data_type == TensorProto.FLOAT
        size = math.prod(tensor.dims) if value is None else value.size
        if is_float and size >= _LARGE:
            array = numpy_helper.to_array(tensor) if value is None else value
            weights[tensor.name] = np.ascontiguousarray(array)
            bare.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, array.shape)
            )
        elif value is None:
            bare.graph.initializer.append(tensor)
        else:
            array = np.ascontiguousarray(value)
            bare.graph.initializer.append(numpy_helper.from_array(array, tensor.name))
    return bare, weights


def result_of_graph(
    model: ModelProto,
    inputs: Sequence[Tensor],
    names: Sequence[str],
    values: Mapping[str, Array],
) -> Result:
    """What an ONNX graph computes.

    Args:
        names: Tensors that its decisions are made of.
        values: See `run_onnx`.
    """
    found = run_onnx(model, inputs, names, values)
    count = len(found) - len(names)
    return Result(outputs=found[:count], decided=found[count:])


def result_of(model: nn.Module, inputs: Sequence[Tensor]) -> Result:
    """What a module computes."""
    with Decisions() as decisions:
        outputs = run_torch(model, inputs)
    return Result(outputs=outputs, decided=arrays(decisions.found))


def run_torch(model: nn.Module, inputs: Sequence[Tensor]) -> Arrays:
    """Outputs of a module, flattened in the order of the export."""
    with torch.no_grad():
        return arrays(model(*inputs))


def arrays(outputs: Any) -> Arrays:
    """Tensors of a module's outputs, flattened in the order of the export."""
    flat, _ = torch.utils._pytree.tree_flatten(outputs)
    return [x.detach().cpu().numpy() for x in flat if torch.is_tensor(x)]


@contextlib.contextmanager
def gated(model: nn.Module, gates: Sequence[GatePoint], keep: Keep) -> Iterator[nn.Module]:
    """The dense model with the gates of all channels outside `keep` closed."""
    hooks = [
        (model.get_submodule(gate.module), multiplier(mask_of(gate, keep), gate.axis))
        for gate in gates
    ]
    with hooked(hooks):
        yield model


def mask_of(gate: GatePoint, keep: Keep) -> Tensor:
    """Whether the gate of each position [P] is open."""
    is_open = gate.group < 0
    for group in np.unique(gate.group[~is_open]):
        is_open |= (gate.group == group) & np.isin(gate.channel, keep[group])
    return torch.from_numpy(is_open)


def ungated_groups(twin: Twin, gates: Sequence[GatePoint]) -> set[int]:
    """Width groups with a gate behind a module that is never called: the network uses its weights
    by themselves.
    """
    idle = [g.group for g in gates if twin.model.get_submodule(g.module) not in twin.called]
    return {int(group) for groups in idle for group in np.unique(groups[groups >= 0])}


def random_keep(space: SearchSpace, seed: int = 0) -> list[Ints]:
    """Random channels to keep, about two thirds of each group; not all if the minimum allows."""
    random = np.random.default_rng(seed)
    keep = []
    for group in space.groups:
        width = max(group.minimum, min(group.width - 1, round(group.width * 0.66)))
        keep.append(np.sort(random.choice(group.width, width, replace=False)))
    return keep


def multiplier(mask: Tensor, axis: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
    """A forward hook that multiplies an axis of the output by a mask [P]."""

    def multiply(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        shape = [1] * output.dim()
        shape[axis] = -1
        return output * mask.to(output).view(shape)

    return multiply
