"""torch's table of translations to ONNX, built once in a process and without parsing.

Each export builds it anew and parses the source of 500 functions for their domains, which it does
not use: a third of the time that a small network takes. A torch that is organised otherwise builds
its table as it does.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

_MODULE = "torch.onnx._internal.exporter._registration"
_FUNCTIONS = "onnxscript._internal.values"
#: Tables by the arguments that they were built with.
_built: dict[tuple[Any, ...], Any] = {}


@contextlib.contextmanager
def translation_table() -> Iterator[None]:
    """Context in which exports take copies of the table of an earlier export."""
    registry = _registry()
    if registry is None:
        yield
        return
    original = registry.__dict__["from_torchlib"]
    build = registry.from_torchlib

    def from_torchlib(*args: Any, **kwargs: Any) -> Any:
        key = (*args, *sorted(kwargs.items()))
        if key not in _built:
            with _without_parsing():
                _built[key] = build(*args, **kwargs)
        table = registry()
        table.__dict__.update(_built[key].__dict__)
        # exports add their own translations to the table
        table.functions = {name: list(known) for name, known in _built[key].functions.items()}
        return table

    registry.from_torchlib = staticmethod(from_torchlib)
    try:
        yield
    finally:
        registry.from_torchlib = original


@contextlib.contextmanager
def _without_parsing() -> Iterator[None]:
    """Context in which a function of onnxscript that torch traces, and does not translate from its
    source, knows its domain only.
    """
    try:
        traced = importlib.import_module(_FUNCTIONS).TracedOnnxFunction
        original = traced.function_ir
    except (ImportError, AttributeError):
        yield
        return
    traced.function_ir = property(lambda function: SimpleNamespace(domain=function.opset.domain))
    try:
        yield
    finally:
        traced.function_ir = original


def _registry() -> Any:
    """torch's class of tables, or None."""
    try:
        found = importlib.import_module(_MODULE).ONNXRegistry
        is_known = "from_torchlib" in found.__dict__ and isinstance(found().functions, dict)
    except (ImportError, AttributeError):
        return None
    return found if is_known else None
