"""A torch model as a canonical ONNX graph, shared by analysis, search space and delivered file.

Constants are folded, but BatchNormalization stays a node and every parameter and buffer keeps its
name in the state_dict, so that an axis of an initializer is an axis of the module's parameter.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import inspect
from collections.abc import Iterator
from typing import Any

import onnx_ir
import torch
from onnx import ModelProto, TensorProto
from onnx_ir.passes import common as ir_passes
from onnxscript import optimizer
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from latency_service.spaces.slicing import BATCH
from pruning_client.execution.copies import copied
from pruning_client.graph.chance import WithoutDropout
from pruning_client.graph.errors import ExportError
from pruning_client.graph.failures import explain
from pruning_client.graph.functional import functional
from pruning_client.graph.graph_network import GraphNetwork
from pruning_client.graph.modes import put_into_mode, register_dataclasses
from pruning_client.graph.normalise import normalise
from pruning_client.graph.pooling import PoolingBySlices
from pruning_client.graph.quiet import silence
from pruning_client.graph.translation_table import translation_table
from pruning_client.graph.translations import TRANSLATIONS

#: ONNX operator set, supported by ONNX Runtime 1.14 and later.
OPSET = 18

#: Weights that still leave room for the rest of a graph, which holds less than 2 GiB.
_MOST_BYTES = 2**31 - 2**24

#: Where the exporter lists the modules around a node, and the node.
_SCOPES = "pkg.torch.onnx.name_scopes"

Example = Tensor | tuple[Tensor, ...]


def trace(model: nn.Module, example: Example, *, training: bool = False) -> ModelProto:
    """Export a model as an ONNX graph with weights and a symbolic batch dimension.

    See `trace_scopes`.
    """
    return trace_scopes(model, example, training=training)[0]


def trace_scopes(
    model: nn.Module, example: Example, *, training: bool = False
) -> tuple[ModelProto, dict[str, str]]:
    """Export a model as an ONNX graph, with the module of each node.

    Args:
        model: Model on any device and in any mode; it is copied, not changed.
        example: An input batch, or a tuple of them; axis 0 is the batch.
        training: Whether to take the way of training mode through the forward pass, still with
            norms and dropout as in eval mode.

    Returns:
        The graph with weights, and the name of the innermost module that each node belongs to.

    Raises:
        ExportError: The forward pass fails on the example, or torch cannot export it; the message
            names the module. Or its weights are too many for a graph in one piece.
    """
    _check_size(model)
    frozen = copied(model).cpu()
    put_into_mode(frozen, training=training)
    # for channels-last tensors the exporter emits index arithmetic that depends on values
    frozen = frozen.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    inputs = example_inputs(example)
    names = _input_names(frozen, len(inputs))
    _return_tensors_only(frozen)
    try:
        with silence(), _without_collection(), translation_table(), torch.no_grad():
            graph = _exported(frozen, inputs, names, training=training)
            scopes = _scopes(graph, frozen)
            parameters = {name for name, _ in tensors(frozen)}
            _fold(graph, parameters)
            proto = onnx_ir.serde.serialize_model(graph)
    except Exception as error:
        raise explain(frozen, inputs, _dynamic_shapes(frozen, names), error) from error
    return normalise(_with_first_names(proto, frozen), parameters), scopes


def _exported(
    model: nn.Module, inputs: tuple[Tensor, ...], names: list[str], *, training: bool
) -> onnx_ir.Model:
    shapes = _dynamic_shapes(model, names)
    dynamic = pytree.tree_map(lambda _: torch.export.Dim.DYNAMIC, shapes)
    try:
        with _mode(training=training):
            traced = torch.export.export(model, inputs, dynamic_shapes=dynamic, strict=False)
    except Exception:  # noqa: BLE001 the exporter has other ways to trace
        with _mode(training=training):
            return _translated(model, inputs, names, shapes)
    return _translated(functional(traced), inputs, names, shapes)


def _translated(
    source: nn.Module | torch.export.ExportedProgram,
    inputs: tuple[Tensor, ...],
    names: list[str],
    shapes: Any,
) -> onnx_ir.Model:
    program = torch.onnx.export(
        source,
        inputs,
        dynamo=True,
        optimize=False,
        verbose=False,
        input_names=names,
        opset_version=OPSET,
        dynamic_shapes=shapes,
        custom_translation_table=TRANSLATIONS,
    )
    assert program is not None
    return program.model


def _check_size(model: nn.Module) -> None:
    own = {id(tensor): tensor for _, tensor in tensors(model)}
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in own.values())
    if size_bytes > _MOST_BYTES:
        raise ExportError(
            f"the model has {size_bytes / 2**30:.1f} GiB of weights: a graph in one piece, which "
            "devices are sent, holds less than 2 GiB.",
            "Prune a smaller one.",
        )


def _return_tensors_only(model: nn.Module) -> None:
    """Let a model leave out, in place, the outputs that are no tensors: a graph has none."""
    if isinstance(model, fx.GraphModule):
        output = model.graph.output_node()
        leaves = pytree.tree_leaves(output.args)
        nodes = tuple(leaf for leaf in leaves if isinstance(leaf, fx.Node))
        if len(nodes) < len(leaves):
            output.args = (nodes,)
            model.recompile()
        return
    forward = model.forward

    @functools.wraps(forward)
    def only_tensors(*args: Any, **kwargs: Any) -> Any:
        outputs = forward(*args, **kwargs)
        register_dataclasses(outputs)
        leaves = pytree.tree_leaves(outputs)
        kept = tuple(leaf for leaf in leaves if torch.is_tensor(leaf))
        return outputs if len(kept) == len(leaves) else kept

    model.forward = only_tensors


def _scopes(graph: onnx_ir.Model, model: nn.Module) -> dict[str, str]:
    """First name of the innermost module of each node, as far as the exporter says."""
    first = {id(module): name for name, module in model.named_modules()}
    every = dict(model.named_modules(remove_duplicate=False))
    scopes = {}
    for node in graph.graph:
        names = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        if node.name is not None and len(names) > 1:
            # a second use has a number behind the name
            module = every.get(str(names[-2]).partition("@")[0])
            scopes[node.name] = "" if module is None else first[id(module)]
    return scopes


def example_inputs(example: Example) -> tuple[Tensor, ...]:
    """The example as a tuple of two-image batches on the CPU: torch treats a batch size of one as
    constant.

    Raises:
        ExportError: An input is no batch.
    """
    inputs: tuple[Any, ...] = example if isinstance(example, tuple) else (example,)
    for index, x in enumerate(inputs):
        if not isinstance(x, Tensor) or not x.dim():
            what = "a tensor without a batch axis" if isinstance(x, Tensor) else type(x).__name__
            raise ExportError(
                f"input {index} of the example is {what}: a graph has tensors as inputs, with the "
                "batch on axis 0.",
                "Let forward take a tensor for each input, for example in a wrapper module that "
                "builds the dictionary or list, and give a tuple of tensors.",
            )
    return tuple(_pair(x.detach().cpu().contiguous()) for x in inputs)


def _pair(x: Tensor) -> Tensor:
    return x[:2] if len(x) > 1 else torch.cat([x, x])


def tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by name; a tensor with two names is listed under both."""
    return [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]


def first_names(model: nn.Module) -> dict[str, str]:
    """The name under which torch lists each parameter and buffer, by each of its names."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(value), name) for name, value in tensors(model)}


def _with_first_names(graph: ModelProto, model: nn.Module) -> ModelProto:
    """A graph with one initializer for each tensor of the model, under its first name, in place."""
    names = first_names(model)
    for node in graph.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    kept: dict[str, TensorProto] = {}
    for tensor in graph.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
        kept.setdefault(tensor.name, tensor)
    if len(kept) < len(graph.graph.initializer):
        held = [TensorProto.FromString(t.SerializeToString()) for t in kept.values()]
        del graph.graph.initializer[:]
        graph.graph.initializer.extend(held)
    return graph


def _input_names(model: nn.Module, count: int) -> list[str]:
    if isinstance(model, GraphNetwork):
        return list(model.input_names)
    parameters = inspect.signature(model.forward).parameters.values()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [*named[:count], *(f"input_{index}" for index in range(len(named), count))]


def _dynamic_shapes(model: nn.Module, names: list[str]) -> Any:
    parameters = inspect.signature(model.forward).parameters.values()
    fixed = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    shapes = [{0: BATCH} for _ in names]
    return tuple(shapes) if fixed >= len(names) else (*shapes[:fixed], tuple(shapes[fixed:]))


def _fold(graph: onnx_ir.Model, kept: set[str]) -> None:
    """Fold constants in place, except nodes that read a parameter: parameters keep their names."""

    def foldable(node: onnx_ir.Node) -> bool | None:
        return (
            False
            if any(value is not None and value.name in kept for value in node.inputs)
            else None
        )

    optimizer.fold_constants(graph, should_fold=foldable)
    for step in (
        ir_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        ir_passes.IdentityEliminationPass(),
        ir_passes.RemoveUnusedNodesPass(),
        ir_passes.ClearMetadataAndDocStringPass(),
    ):
        step(graph)


@contextlib.contextmanager
def _mode(*, training: bool) -> Iterator[None]:
    """The context in which a model is traced."""
    with PoolingBySlices(), WithoutDropout() if training else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Suspend garbage collection: the millions of objects of an export live until its end."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
