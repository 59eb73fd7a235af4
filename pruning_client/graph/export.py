"""A torch model as a canonical ONNX graph, shared by analysis, search space and delivered file.

Constants are folded, but BatchNormalization stays a node and every parameter and buffer keeps its
name in the state_dict, so that an axis of an initializer is an axis of the module's parameter.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx_ir
import torch
from onnx import ModelProto
from onnx_ir.passes import common as ir_passes
from onnxscript import optimizer
from torch import Tensor, nn

from latency_service.spaces.slicing import BATCH
from pruning_client.graph.errors import ExportError
from pruning_client.graph.modes import WithoutDropout, put_into_mode
from pruning_client.graph.normalise import normalise
from pruning_client.graph.translations import TRANSLATIONS

#: ONNX operator set, supported by ONNX Runtime 1.14 and later.
OPSET = 18

Example = Tensor | tuple[Tensor, ...]


def trace(model: nn.Module, example: Example, *, training: bool = False) -> ModelProto:
    """Export a model as an ONNX graph with weights and a symbolic batch dimension.

    Args:
        model: Model on any device and in any mode; it is copied, not changed.
        example: An input batch, or a tuple of them; axis 0 is the batch.
        training: Whether to take the way of training mode through the forward pass, still with
            norms and dropout as in eval mode.

    Raises:
        ExportError: The forward pass fails on the example, or torch cannot export it; the message
            names the module.
    """
    frozen = copy.deepcopy(model).cpu()
    put_into_mode(frozen, training=training)
    # for channels-last tensors the exporter emits index arithmetic that depends on values
    frozen = frozen.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    inputs = example_inputs(example)
    names = _input_names(frozen, len(inputs))
    try:
        with _silence(), torch.no_grad(), _mode(training=training):
            program = torch.onnx.export(
                frozen,
                inputs,
                dynamo=True,
                optimize=False,
                verbose=False,
                input_names=names,
                opset_version=OPSET,
                dynamic_shapes=_dynamic_shapes(frozen, names),
                custom_translation_table=TRANSLATIONS,
            )
            assert program is not None
            graph = program.model
            parameters = {name for name, _ in tensors(frozen)}
            _fold(graph, parameters)
            proto = onnx_ir.serde.serialize_model(graph)
    except Exception as error:
        raise _explain(frozen, inputs, error) from error
    return normalise(proto, parameters)


def example_inputs(example: Example) -> tuple[Tensor, ...]:
    """The example as a tuple of two-image batches on the CPU: torch treats a batch size of one as
    constant.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    return tuple(_pair(x.detach().cpu().contiguous()) for x in inputs)


def _pair(x: Tensor) -> Tensor:
    return x[:2] if len(x) > 1 else torch.cat([x, x])


def tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by name; a tensor with two names is listed under both."""
    return [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]


def _input_names(model: nn.Module, count: int) -> list[str]:
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


def _mode(*, training: bool) -> contextlib.AbstractContextManager[object]:
    return WithoutDropout() if training else contextlib.nullcontext()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress the exporter's own warnings (missing torchvision, deprecated internals)."""
    disabled = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _explain(model: nn.Module, inputs: tuple[Tensor, ...], error: Exception) -> ExportError:
    """Find the failing module by running the model or, if it runs, by tracing it."""
    where, cause = _failing_module(model, lambda: model(*inputs))
    if cause is not None:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        return ExportError(
            f"the model fails on an input of shape {shapes} in {where}: {_first_line(cause)}.",
            "Give an example of the shape that the model takes.",
        )
    where, cause = _failing_module(model, lambda: torch.export.export(model, inputs, strict=False))
    return ExportError(
        f"{where} cannot be exported: {_first_line(cause or error)}.",
        "Replace control flow that depends on values of tensors, and operators that ONNX lacks.",
    )


def _failing_module(model: nn.Module, attempt: Any) -> tuple[str, Exception | None]:
    entered: list[str] = []
    hooks = []
    for name, module in model.named_modules():
        label = (
            f"module {name!r} ({type(module).__name__})"
            if name
            else f"{type(module).__name__}.forward"
        )
        hooks.append(
            module.register_forward_pre_hook(lambda *_, label=label: entered.append(label))
        )
        hooks.append(module.register_forward_hook(lambda *_: entered.pop() and None))
    try:
        with _silence(), torch.no_grad():
            attempt()
    except Exception as error:  # noqa: BLE001 any failure of the user's code is what is asked for
        return (entered[-1] if entered else type(model).__name__), error
    finally:
        for hook in hooks:
            hook.remove()
    return type(model).__name__, None


def _first_line(error: Exception) -> str:
    return next(
        (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
    )
