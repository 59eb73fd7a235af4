"""Modules whose outputs carry the channels of a graph: places for gates, and filters to score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import NodeProto
from torch import Tensor, nn

from latency_service.core.arrays import Ints
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
class Site:
    """A module's output in the graph."""

    name: str
    module: nn.Module
    axis: int
    #: Atoms of the output axis [P].
    atoms: Atoms
    #: Whether only a batch norm follows, which is then the place for gates.
    before_norm: bool


def sites(flow: Flow, model: nn.Module) -> list[Site]:
    """Outputs of all convolutions, linear layers and channel-wise norms, in the order of the
    graph.
    """
    readers = _readers(flow)
    owners = {id(module): name for name, module in model.named_modules()}
    found: dict[str, Site] = {}
    for node in flow.model.graph.node:
        for module in _modules_of(node, model):
            if not isinstance(module, (*PRODUCERS, *NORMS)) or owners[id(module)] in found:
                continue
            site = _site(flow, node, owners[id(module)], module, readers)
            if site is not None:
                found[site.name] = site
    return list(found.values())


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
        axis=-1 if isinstance(module, nn.Linear) else 1,
        atoms=atoms,
        before_norm=isinstance(module, PRODUCERS) and set(followers) == {"BatchNormalization"},
    )


def _output_atoms(flow: Flow, node: NodeProto, prefix: str, module: nn.Module) -> Atoms | None:
    if isinstance(module, CONVOLUTIONS):
        return flow.of(node.output[0])[1] if node.op_type in ("Conv", "ConvTranspose") else None
    for tensor in ("weight", "running_mean"):
        if prefix + tensor in flow.labels:
            return flow.labels[prefix + tensor][0]
    return None


def _readers(flow: Flow) -> dict[str, list[str]]:
    """Operators that read each tensor."""
    readers: dict[str, list[str]] = {entry.name: ["output"] for entry in flow.model.graph.output}
    for node in flow.model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    return readers


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
