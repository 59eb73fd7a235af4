"""Running out of memory is told as such, wherever it shows, never as a fault of the file."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from latency_service.core import graphs
from latency_service.core.graphs import GraphError
from latency_service.inspection.inspector import Inspector
from latency_service.inspection.wire import Limits, Refused
from latency_service.model_files import inspection as model_files
from latency_service.model_files import service as model_files_service
from latency_service.spaces.errors import SpaceError
from latency_service.spaces.layers import total_macs
from latency_service.spaces.slicing import SearchSpace
from tests.support.tiny import tiny_space

NO_MEMORY = [
    MemoryError("std::bad_alloc"),
    DecodeError("Error parsing message with type 'onnx.ModelProto': Arena alloc failed"),
]


def model_of(nodes: int) -> bytes:
    made = [helper.make_node("Add", ["x", "x"], [f"y{k}"], name=f"n{k}") for k in range(nodes)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y0")]
    graph = helper.make_graph(made, "g", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 17)]
    content: bytes = helper.make_model(graph, opset_imports=opset).SerializeToString()
    return content


def fails(error: Exception) -> Any:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


@pytest.mark.parametrize("error", NO_MEMORY, ids=["memory", "protobuf"])
def test_no_library_s_lack_of_memory_is_a_fault_of_the_file(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = model_of(1)
    space = SearchSpace.from_bytes(tiny_space().data)
    monkeypatch.setattr(onnx.checker, "check_model", fails(error))
    with pytest.raises(MemoryError):
        model_files.inspect(upload)
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", fails(error))
    with pytest.raises(MemoryError):
        total_macs(space, space.full_widths)
    monkeypatch.setattr(onnx, "load_model_from_string", fails(error))
    with pytest.raises(MemoryError):
        graphs.parse(upload)


def test_other_errors_are_about_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    upload = model_of(1)
    space = SearchSpace.from_bytes(tiny_space().data)
    error = RuntimeError("a node named 'Arena alloc failed'")
    monkeypatch.setattr(onnx.checker, "check_model", fails(error))
    with pytest.raises(Refused):
        model_files.inspect(upload)
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", fails(error))
    with pytest.raises(SpaceError):
        total_macs(space, space.full_widths)
    with pytest.raises(GraphError):
        graphs.parse(b"no graph")


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_file_that_needs_more_memory_than_its_limit_is_told_so() -> None:
    limits = Limits(memory_bytes=1 << 20, cpu_seconds=9, wall_seconds=60)
    judge = f"{model_files_service.INSPECTION}:inspect"
    with (
        contextlib.closing(Inspector([model_files_service.INSPECTION])) as inspector,
        inspector.place("a") as place,
        pytest.raises(Refused, match="more than 1 MB of memory"),
    ):
        asyncio.run(place.judge(judge, model_of(30_000), limits))
