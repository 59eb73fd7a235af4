"""Modules whose outputs or inputs carry the channels of a graph: places for gates, layers that
produce channels, and layers that read them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import GraphProto, NodeProto
from torch import Tensor, nn

from latency_service.core.arrays import Ints
from pruning_client.graph.affine import Affine, affines, stands_alone
from pruning_client.graph.flow import Flow
from pruning_client.graph.labels import Atoms

CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
PRODUCERS = (*CONVOLUTIONS, nn.Linear)
NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
)


@dataclass(frozen=True, kw_only=True)
class GatePoint:
    """A module whose output carries prunable channels and is multiplied by gates."""

    #: Name as in `named_modules`.
    module: str
    #: Channel axis of the output.
    axis: int
    #: Width group of each position of that axis [P], or -1.
    group: Ints
    #: Channel of each position in its group [P], or -1.
    channel: Ints


@dataclass(frozen=True, kw_only=True)
class Producer:
    """A convolution or linear layer whose filters are channels of a width group."""

    module: str
    group: int
    #: Filters, as positions of the output axis [P].
    filters: Ints
    #: Channel of the group that each filter produces [P].
    channels: Ints
    #: Whether each filter reads only its own input channel.
    depthwise: bool


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A convolution or linear layer whose inputs are channels of width groups."""

    module: str
    #: Channel axis of the input.
    axis: int
    #: Width group of each position of that axis [P], or -1.
    group: Ints
    #: Channel of each position in its group [P], or -1.
    channel: Ints
    #: Whether each filter reads only its own input channel.
    depthwise: bool


@dataclass(frozen=True, kw_only=True)
class Site:
    """A module's output in the graph."""

    name: str
    module: nn.Module
    axis: int
    #: Atoms of the output axis [P].
    atoms: Atoms
    #: Whether only a batch norm follows, which is then the place for gates.
    before_norm: bool
    #: Atoms of the channel axis of the input [P], for convolutions and linear layers.
    inputs: Atoms | None = None


def sites(flow: Flow, model: nn.Module) -> list[Site]:
    """Outputs of all convolutions, linear layers, channel-wise norms and modules that shift each
    channel, in the order of the graph.
    """
    shifted = _shifted(flow, model)
    readers = _readers(flow, {node for site in shifted.values() for node in site.nodes})
    owners = {id(module): name for name, module in model.named_modules()}
    found: dict[str, Site] = {}
    for node in flow.model.graph.node:
        if node.name in shifted:
            found[shifted[node.name].site.name] = shifted[node.name].site
        for module in [*_modules_of(node, model), *_layers_of(flow, node, model)]:
            if not isinstance(module, (*PRODUCERS, *NORMS)) or owners[id(module)] in found:
                continue
            site = _site(flow, node, owners[id(module)], module, readers)
            if site is not None:
                found[site.name] = site
    return list(found.values())


@dataclass(frozen=True, kw_only=True)
class _Shifted:
    """A module whose output is shifted by its own constants per channel."""

    site: Site
    #: Names of the nodes that scale and shift.
    nodes: list[str]


def _shifted(flow: Flow, model: nn.Module) -> dict[str, _Shifted]:
    """Modules that shift each channel, by the name of the last node of each that does."""
    owned: dict[str, list[Affine]] = {}
    modules = dict(model.named_modules())
    for entry in affines(flow, model):
        module = modules[entry.owner]
        if stands_alone(module) and not isinstance(module, (*PRODUCERS, *NORMS)):
            owned.setdefault(entry.owner, []).append(entry)
    found = {}
    for name, entries in owned.items():
        if any(entry.shifts for entry in entries):
            last = entries[-1]
            rank = len(flow.of(last.node.output[0]))
            site = Site(
                name=name,
                module=modules[name],
                axis=last.axis if last.axis < rank - 1 else -1,
                atoms=last.atoms,
                before_norm=False,
            )
            nodes = [entry.node.name for entry in entries]
            found[last.node.name] = _Shifted(site=site, nodes=nodes)
    return found


def _site(
    flow: Flow, node: NodeProto, name: str, module: nn.Module, readers: dict[str, list[str]]
) -> Site | None:
    atoms = _output_atoms(flow, node, f"{name}." if name else "", module)
    if atoms is None:
        return None
    followers = readers.get(node.output[0], [])
    return Site(
        name=name,
        module=module,
        axis=channel_axis(module),
        atoms=atoms,
        before_norm=isinstance(module, PRODUCERS) and set(followers) == {"BatchNormalization"},
        inputs=_input_atoms(flow, node, f"{name}." if name else "", module),
    )


def channel_axis(module: nn.Module) -> int:
    """Channel axis of the inputs and outputs of a layer or norm."""
    return -1 if isinstance(module, nn.Linear) else 1


def is_depthwise(module: nn.Module) -> bool:
    """Whether each filter of a layer reads only its own input channel."""
    return isinstance(module, CONVOLUTIONS) and module.groups > 1 and module.weight.shape[1] == 1


def _output_atoms(flow: Flow, node: NodeProto, prefix: str, module: nn.Module) -> Atoms | None:
    if isinstance(module, CONVOLUTIONS):
        return flow.of(node.output[0])[1] if node.op_type in ("Conv", "ConvTranspose") else None
    for tensor in ("weight", "running_mean"):
        if prefix + tensor in flow.labels:
            return flow.labels[prefix + tensor][0]
    return None


def _input_atoms(flow: Flow, node: NodeProto, prefix: str, module: nn.Module) -> Atoms | None:
    if isinstance(module, CONVOLUTIONS):
        return flow.of(node.input[0])[1]
    return flow.labels[f"{prefix}weight"][1] if isinstance(module, nn.Linear) else None


def _readers(flow: Flow, norms: set[str]) -> dict[str, list[str]]:
    """Operators that read each tensor; those of `norms` count as batch norms."""
    readers: dict[str, list[str]] = {entry.name: ["output"] for entry in flow.model.graph.output}
    for node in flow.model.graph.node:
        for name in node.input:
            kind = "BatchNormalization" if node.name in norms else node.op_type
            readers.setdefault(name, []).append(kind)
    return readers


def nearest_module(graph: GraphProto, node: NodeProto, model: nn.Module) -> str:
    """The last module whose tensors a node depends on, as errors name it."""
    makers = {name: maker for maker in graph.node for name in maker.output}
    owners = {id(module): name for name, module in model.named_modules()}
    waiting = [node]
    seen: set[str] = set()
    while waiting:
        current = waiting.pop(0)
        for module in _modules_of(current, model):
            return f"module {owners[id(module)]!r} ({type(module).__name__})"
        before = [makers[name] for name in current.input if name in makers]
        waiting.extend(maker for maker in before if maker.name not in seen)
        seen.update(maker.name for maker in before)
    return f"the input of {type(model).__name__!r}"


def _layers_of(flow: Flow, node: NodeProto, model: nn.Module) -> Iterator[nn.Module]:
    """Convolutions whose weight is the only tensor that the computed weight of a node is made of,
    such as those that standardise it.
    """
    if node.op_type not in ("Conv", "ConvTranspose") or node.input[1] not in flow.makers:
        return
    waiting, seen = [node.input[1]], set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        maker = flow.makers.get(name)
        if maker is None and name not in flow.tensors:
            return
        waiting += [] if maker is None else [other for other in maker.input if other not in seen]
    for name, module in model.named_modules():
        own = {f"{name}.{key}".lstrip(".") for key, _ in module.named_parameters()}
        if isinstance(module, CONVOLUTIONS) and own & seen:
            yield module


def _modules_of(node: NodeProto, model: nn.Module) -> Iterator[nn.Module]:
    """Modules whose parameters or buffers a node reads."""
    for name in node.input:
        path, _, leaf = name.rpartition(".")
        try:
            module = model.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(getattr(module, leaf, None), Tensor):
            yield module
