"""Exports share torch's table of translations, and what one adds to it stays its own."""

from __future__ import annotations

import gc
import importlib

import pytest
import torch
from torch import nn

from pruning_client.graph import translation_table as tables
from pruning_client.graph.errors import ExportError
from pruning_client.graph.space import trace


def test_later_exports_take_the_first_ones_table(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = tables._registry()
    assert registry is not None, "torch builds its table elsewhere: exports are slower"
    original = registry.__dict__["from_torchlib"]
    monkeypatch.setattr(tables, "_built", {})
    with tables.translation_table():
        first = registry().from_torchlib(opset_version=18)
        names = set(first.functions)
        name = next(iter(names))
        first.functions["own::operator"] = []
        first.functions[name].append("own")
        second = registry().from_torchlib(opset_version=18)
    assert set(second.functions) == names
    assert "own" not in second.functions[name]
    assert second.opset_version == first.opset_version
    assert len(tables._built) == 1
    assert registry.__dict__["from_torchlib"] is original


def test_the_table_is_what_torch_builds_though_nothing_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = tables._registry()
    expected = registry.from_torchlib(opset_version=18)
    monkeypatch.setattr(tables, "_built", {})
    traced = importlib.import_module(tables._FUNCTIONS).TracedOnnxFunction
    monkeypatch.setattr(traced, "function_ir", property(_fail))
    with tables.translation_table():
        found = registry.from_torchlib(opset_version=18)
    assert found.functions == expected.functions


def _fail(function: object) -> None:
    raise AssertionError(f"the source of {function} is parsed")


def test_an_onnxscript_that_is_organised_otherwise_builds_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "_built", {})
    monkeypatch.setattr(tables, "_FUNCTIONS", "onnxscript.nowhere")
    with tables.translation_table():
        assert tables._registry().from_torchlib(opset_version=18).functions


def test_a_torch_without_the_table_exports_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MODULE", "torch.onnx.nowhere")
    assert trace(nn.ReLU(), torch.zeros(2, 3)).graph.node[0].op_type == "Relu"


def test_garbage_is_collected_again_after_an_export_that_fails() -> None:
    assert gc.isenabled()
    with pytest.raises(ExportError):
        trace(nn.Linear(4, 2), torch.zeros(2, 3))
    assert gc.isenabled()
