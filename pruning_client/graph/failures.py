"""Why a model cannot be exported: the module, the cause and a cure."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._decomp import decomposition_table
from torch.utils import _pytree as pytree

from pruning_client.errors import first_line
from pruning_client.graph.errors import ExportError
from pruning_client.graph.modes import entered_modules
from pruning_client.graph.quiet import silence


def explain(
    model: nn.Module, inputs: tuple[Tensor, ...], shapes: Any, error: Exception
) -> ExportError:
    """Find the failing module by running the model or, if it runs, by tracing it.

    Args:
        shapes: Axes of the inputs that are not fixed, as torch's exporter takes them.
        error: What the export raised.
    """
    by_keyword = [
        repr(parameter.name)
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    ]
    if by_keyword:
        return ExportError(
            f"{type(model).__name__}.forward takes {' and '.join(by_keyword)} by keyword only.",
            "Let it take its inputs by position.",
        )
    where, cause = _failing_module(model, lambda: model(*inputs))
    if cause is not None:
        given = ", ".join(str(tuple(x.shape)) for x in inputs)
        return ExportError(
            f"the model fails on an input of shape {given} in {where}: {first_line(cause)}.",
            "Give an example of the shape that the model takes.",
        )
    programs: list[torch.export.ExportedProgram] = []
    where, cause = _failing_module(
        model, lambda: programs.append(torch.export.export(model, inputs, strict=False))
    )
    reason = cause or _innermost(error)
    if "SymbolicTensor" in str(reason):
        return _by_batch(model, inputs, shapes, first_line(reason))
    for program in programs:
        where = _untranslated_module(program, str(reason)) or where
    return ExportError(
        f"{where} cannot be exported: {first_line(reason)}.",
        "Replace control flow that depends on values of tensors, and operators that ONNX lacks.",
    )


def _by_batch(
    model: nn.Module, inputs: tuple[Tensor, ...], shapes: Any, reason: str
) -> ExportError:
    """Name the operator with a setting, which ONNX has as a number, that is the batch's size."""
    open_axes = pytree.tree_map(lambda _: torch.export.Dim.DYNAMIC, shapes)
    nodes: Iterable[fx.Node] = ()
    with silence(), torch.no_grad(), contextlib.suppress(Exception):
        nodes = torch.export.export(
            model, inputs, dynamic_shapes=open_axes, strict=False
        ).graph.nodes
    for node in nodes:
        name = str(node.target)
        last = node.args[-1] if node.args else None
        if "conv" in name and isinstance(last, fx.Node) and _is_size(last):
            return ExportError(
                f"{_module_of(node)} cannot be exported: a convolution's number of groups depends "
                "on the size of the batch.",
                "Mix the outputs of the convolutions for each image, not their weights: it "
                "computes the same.",
            )
    return ExportError(
        f"{type(model).__name__} cannot be exported: a setting of an operator depends on the size "
        f"of the batch ({reason}).",
        "Make it a number.",
    )


def _is_size(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.SymInt)


def _module_of(node: fx.Node) -> str:
    """The innermost module of a node of a traced program, as errors name it."""
    name, kind = list(node.meta["nn_module_stack"].values())[-1]
    return label(name, str(kind).rpartition(".")[2])


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _untranslated_module(program: torch.export.ExportedProgram, reason: str) -> str | None:
    """The module with the first operator that a reason names, or None."""
    with silence(), torch.no_grad():
        primitive = program.run_decompositions(dict(decomposition_table))
    for node in [*program.graph.nodes, *primitive.graph.nodes]:
        operator = str(node.target).rpartition(".")[0]
        if node.op == "call_function" and operator and f"'{operator}'" in reason:
            return _module_of(node)
    return None


def label(name: str, kind: str) -> str:
    """A module as errors and reasons name it."""
    return f"module {name!r} ({kind})" if name else f"{kind}.forward"


def named(model: nn.Module, name: str) -> str:
    """A module of a model as errors and reasons name it."""
    return label(name, type(model.get_submodule(name)).__name__)


def _failing_module(model: nn.Module, attempt: Any) -> tuple[str, Exception | None]:
    with entered_modules(model) as entered:
        try:
            with silence(), torch.no_grad():
                attempt()
        except Exception as error:  # noqa: BLE001 any failure of the user's code is what is asked for
            return named(model, entered[-1]), error
    return type(model).__name__, None
