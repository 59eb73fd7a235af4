"""A torch module from an operator graph, for models with channel counts hard-coded in the forward
pass.

It has the parameters and norms of the model under their own names, so that state_dicts, training
and recalibration of batch norms work as before. It has no dropout, in neither mode.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, helper, numpy_helper
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from pruning_client.graph.layer_operators import Sizes
from pruning_client.graph.modes import Output
from pruning_client.graph.operators import OPERATORS, Operator

_TORCH_NORMS = (nn.BatchNorm2d.__module__, nn.InstanceNorm2d.__module__)
#: Leaves of a form that is kept.
_LEAVES = (Output, bool, int, float, str, type(None))


def _join(*parts: Sizes, axis: int = 0) -> Sizes:
    return [size for part in parts for size in part]


def _multiply(sizes: Sizes, factors: Sizes) -> Sizes:
    return [size * factor for size, factor in zip(sizes, factors, strict=True)]


#: Operators on sizes of tensors, which are no tensors in torch.
_OF_SIZES = {
    "Concat": Operator(function=_join, settings=frozenset(range(64))),
    "Mul": Operator(function=_multiply, settings=frozenset((0, 1))),
}


class NoTorchForm(ValueError):
    """An operator of the graph has no torch form."""


def make_network(
    model: nn.Module,
    graph: ModelProto,
    structure: Any = None,
    prefix: str = "constant_",
) -> fx.GraphModule:
    """A module that computes the graph with the parameters and buffers of `model`.

    Its convolutions, linear layers and norms are called as modules, so that hooks on them work and
    the network can be traced again.

    Args:
        structure: Form of the outputs, any that torch's pytree knows, with an `Output` for each
            tensor; by default one tensor or a tuple.
        prefix: Start of the names of the graph's constants.

    Raises:
        NoTorchForm: An operator has no torch form; the message names it.
    """
    return _Builder(model, graph, prefix).build(structure)


class _Builder:
    def __init__(self, model: nn.Module, graph: ModelProto, prefix: str) -> None:
        self._model = model
        self._graph = graph
        self._prefix = prefix
        self._constants = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer
        }
        self._root = nn.Module()
        for name, child in model.named_children():
            self._root.add_module(name, child)
        for name, parameter in model.named_parameters(recurse=False):
            self._root.register_parameter(name, parameter)
        for name, buffer in model.named_buffers(recurse=False):
            self._root.register_buffer(name, buffer)
        self._fx = fx.Graph()
        self._made: dict[str, Any] = {"": None}
        self._buffers: list[str] = []
        self._sizes: set[str] = set()

    def build(self, structure: Any) -> fx.GraphModule:
        for entry in self._graph.graph.input:
            self._made[entry.name] = self._fx.placeholder(entry.name)
        for node in self._graph.graph.node:
            self._add(node)
        outputs = tuple(self._made[entry.name] for entry in self._graph.graph.output)
        self._fx.output(self._arrange(outputs, structure))
        network = fx.GraphModule(self._root, self._fx, class_name=type(self._model).__name__)
        # constants of the graph are not part of the model's state
        network._non_persistent_buffers_set.update(self._buffers)
        _set_modes(network, self._model)
        return network

    def _arrange(self, outputs: tuple[Any, ...], structure: Any) -> Any:
        """Outputs in the form of the model's, if that holds tensors and plain constants only."""
        leaves, form = pytree.tree_flatten(structure)
        places = [leaf for leaf in leaves if isinstance(leaf, Output)]
        if len(places) != len(outputs) or not all(isinstance(leaf, _LEAVES) for leaf in leaves):
            return outputs[0] if len(outputs) == 1 else outputs
        if _is_plain(structure):
            return pytree.tree_unflatten(
                [outputs[leaf.index] if isinstance(leaf, Output) else leaf for leaf in leaves], form
            )
        # fx would make plain dictionaries of others
        name = f"{self._prefix}outputs"
        self._root.add_module(name, _Arranged(structure))
        return self._fx.call_module(name, outputs)

    def _add(self, node: NodeProto) -> None:
        if node.op_type == "BatchNormalization" and not self._is_frozen(node):
            path = self._norm(node)
            self._made[node.output[0]] = self._fx.call_module(path, (self._tensor(node.input[0]),))
            return
        if (layer := layer_of(self._model, node)) is not None:
            source = self._tensor(node.input[0])
            self._made[node.output[0]] = self._fx.call_module(layer, (source,))
            return
        sizes = self._sizes.intersection(node.input)
        operator = (_OF_SIZES if sizes else {}).get(node.op_type, OPERATORS.get(node.op_type))
        if operator in _OF_SIZES.values() or node.op_type == "Shape":
            self._sizes.update(node.output)
        if operator is None:
            raise NoTorchForm(f"{node.op_type} {node.name!r}")
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        inputs = [
            self._setting(name) if index in operator.settings else self._tensor(name)
            for index, name in enumerate(node.input)
        ]
        made = self._fx.call_function(operator.function, tuple(inputs), _plain(attributes))
        if len(node.output) == 1:
            self._made[node.output[0]] = made
        else:
            for index, name in enumerate(node.output):
                self._made[name] = self._fx.call_function(_item, (made, index))

    def _is_frozen(self, node: NodeProto) -> bool:
        """Whether a norm is no module of torch's and has no parameters: it computes the same in
        both modes.
        """
        norm = self._model.get_submodule(str(node.input[3]).rpartition(".")[0])
        learned = any(name in dict(self._model.named_parameters()) for name in node.input)
        return not learned and not isinstance(norm, nn.modules.batchnorm._NormBase)

    def _norm(self, node: NodeProto) -> str:
        """Name of the model's batch norm of a node; it must continue to update its statistics."""
        path = str(node.input[3]).rpartition(".")[0]
        norm = self._model.get_submodule(path)
        if not isinstance(norm, nn.modules.batchnorm._NormBase):
            raise NoTorchForm(f"{node.op_type} {node.name!r} outside a batch norm module")
        _make_plain(norm)
        return path

    def _setting(self, name: str) -> Any:
        """A constant input as plain numbers, or sizes of tensors."""
        if name in self._sizes:
            return self._made[name]
        if name and name not in self._constants:
            raise NoTorchForm(f"computed sizes {name!r}")
        return self._constants[name].tolist() if name else None

    def _tensor(self, name: str) -> Any:
        if name not in self._made:
            held = holds(self._model, name)
            self._made[name] = self._fx.get_attr(name if held else self._buffer(name))
        return self._made[name]

    def _buffer(self, name: str) -> str:
        field = f"{self._prefix}{len(self._buffers)}"
        device = next((p.device for p in self._model.parameters()), torch.device("cpu"))
        value = torch.from_numpy(np.array(self._constants[name])).to(device)
        self._root.register_buffer(field, value, persistent=False)
        self._buffers.append(field)
        return field


def holds(model: nn.Module, name: str) -> bool:
    """Whether a tensor of a graph is one of the model."""
    path, _, leaf = name.rpartition(".")
    try:
        return isinstance(getattr(model.get_submodule(path), leaf), Tensor)
    except AttributeError:
        return False


def layer_of(model: nn.Module, node: NodeProto) -> str | None:
    """Name of the convolution or linear layer of the model whose call is a node."""
    path, _, leaf = (node.input[1] if len(node.input) > 1 else "").rpartition(".")
    layers = dict(model.named_modules())
    if leaf != "weight" or path not in layers:
        return None
    layer = layers[path]
    held = [f"{path}.{name}" for name, _ in layer.named_parameters(recurse=False)]
    if held != list(node.input[1:]):
        return None
    given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if node.op_type == "Conv" and type(layer) in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        return path if _is_call(layer, given) else None
    is_plain = given.get("transB", 0) == 1 and not given.get("transA", 0)
    scales = given.get("alpha", 1.0), given.get("beta", 1.0)
    if node.op_type == "Gemm" and type(layer) is nn.Linear and is_plain and scales == (1.0, 1.0):
        return path
    return None


def _is_call(layer: nn.Module, given: dict[str, Any]) -> bool:
    """Whether a convolution has the attributes of a node."""
    if not isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) or isinstance(layer.padding, str):
        return False
    return (
        layer.padding_mode == "zeros"
        and given.get("auto_pad", b"NOTSET") == b"NOTSET"
        and list(given.get("strides", layer.stride)) == list(layer.stride)
        and list(given.get("dilations", layer.dilation)) == list(layer.dilation)
        and list(given.get("pads", 2 * layer.padding)) == list(2 * layer.padding)
        and given.get("group", 1) == layer.groups
    )


def _make_plain(norm: nn.Module) -> None:
    """Let a norm that does more than normalise do that only: the graph has its other parts."""
    kind = type(norm)
    plain: type[nn.Module] = next(base for base in kind.__mro__ if base.__module__ in _TORCH_NORMS)
    if kind.forward is not plain.forward:
        norm.__class__ = plain


def _set_modes(network: nn.Module, model: nn.Module) -> None:
    """Put each module into training or eval mode as it is in the model, where norms may be
    frozen.
    """
    modes = {name: module.training for name, module in model.named_modules()}
    for name, module in network.named_modules():
        module.training = modes.get(name, model.training)


class _Arranged(nn.Module):
    """Brings tensors into a form that torch's pytree knows, such as an OrderedDict."""

    def __init__(self, structure: Any) -> None:
        super().__init__()
        self._structure = structure

    def forward(self, *outputs: Tensor) -> Any:
        return pytree.tree_map_only(Output, lambda leaf: outputs[leaf.index], self._structure)


def _is_plain(structure: Any) -> bool:
    """Whether a form is of tuples, lists and dictionaries alone."""
    if type(structure) is dict:
        return all(isinstance(key, str) and _is_plain(value) for key, value in structure.items())
    if type(structure) in (tuple, list):
        return all(_is_plain(value) for value in structure)
    return isinstance(structure, _LEAVES)


def _item(values: Any, index: int) -> Any:
    return values[index]


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes as strings, numbers and lists, which fx can serialise."""
    plain: dict[str, Any] = {}
    for name, value in attributes.items():
        if isinstance(value, bytes):
            plain[name] = value.decode()
        elif isinstance(value, (int, float)):
            plain[name] = value
        else:
            plain[name] = list(value)
    return plain
