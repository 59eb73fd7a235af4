"""Time of each layer of a file, measured by ONNX Runtime's profiler on this machine."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto
from onnx.helper import tensor_dtype_to_np_dtype

from latency_service.core.quantisation import weight_name
from latency_service.devices.schemas import RuntimeConfig
from pruning_client.reports.schema import LayerShare

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_RUNS = 40
_WARMUP = 5
_SECONDS = 2.0
#: Endings that ONNX Runtime gives the names of operators when it times, lays out or fuses them.
_SUFFIX = re.compile(r"(_nchwc|_token_\d+)?(_kernel_time)?$")
#: Maximum distance from the end of a fused operator back to its convolution.
_DEPTH = 8


def layer_shares(
    before: bytes, before_ms: float, after: bytes, after_ms: float, runtime: RuntimeConfig
) -> list[LayerShare]:
    """Time of each layer of two files in the order of the network; the sum of each file is its
    latency.

    The profile comes from this machine, which need not be the target: it gives the share of each
    layer, and the latencies give the total. Operators without weights are summed by kind.

    Args:
        before_ms, after_ms: Measured latencies of the two files on the target.
    """
    old = _scaled(layer_microseconds(before, runtime), before_ms)
    new = _scaled(layer_microseconds(after, runtime), after_ms)
    names = list(dict.fromkeys([*old, *new]))
    return [
        LayerShare(name=name, before_ms=old.get(name, 0.0), after_ms=new.get(name, 0.0))
        for name in names
    ]


def layer_microseconds(data: bytes, runtime: RuntimeConfig) -> dict[str, float]:
    """Median time of one run by layer, us; layers are named by their weights, other operators by
    kind.
    """
    model = onnx.load_model_from_string(data)
    layers = _Layers(model)
    total: dict[str, float] = defaultdict(float)
    for kernel, durations in _kernel_times(_profile(data, model, runtime)).items():
        median = float(np.median(durations[_WARMUP:] or durations))
        total[layers.name_of(kernel.event, kernel.operator)] += median
    return dict(total)


class _Kernel(NamedTuple):
    """One operator of the optimised graph."""

    node_index: str
    event: str
    operator: str


def _profile(data: bytes, model: ModelProto, runtime: RuntimeConfig) -> list[dict[str, Any]]:
    """Events of ONNX Runtime's profiler while a file runs."""
    available = onnxruntime.get_available_providers()
    provider = runtime.provider if runtime.provider in available else "CPUExecutionProvider"
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.intra_op_num_threads = runtime.intra_threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(data, options, providers=[provider])
        _run(session, model, runtime.batch)
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    return events


def _kernel_times(events: Sequence[Mapping[str, Any]]) -> dict[_Kernel, list[float]]:
    """Durations of each operator, us, in the order of the runs."""
    times: dict[_Kernel, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node_index = str(event["args"].get("node_index", ""))
            kernel = _Kernel(node_index, event["name"], event["args"]["op_name"])
            times[kernel].append(float(event["dur"]))
    return times


class _Layers:
    """Finds the weights of an operator of the optimised graph by the names left after fusion."""

    def __init__(self, model: ModelProto) -> None:
        self._weights = {tensor.name for tensor in model.graph.initializer}
        self._makers = {output: node for node in model.graph.node for output in node.output}
        self._nodes = {node.name: node for node in model.graph.node}
        self._claimed: set[str] = set()

    def name_of(self, event: str, operator: str) -> str:
        base = _SUFFIX.sub("", event)
        node = self._nodes.get(base) or self._makers.get(base)
        if node is None or not any(kind in operator for kind in _WEIGHTED):
            return operator
        found = self._weight(node, _DEPTH)
        if found is None:
            return operator
        self._claimed.add(found)
        return weight_name(found)

    def _weight(self, node: NodeProto, depth: int) -> str | None:
        """Weights, not yet claimed, of the nearest weighted operator at or before a node."""
        if node.op_type in _WEIGHTED:
            weight = self._matrix(node.input[1])
            return weight if weight is not None and weight not in self._claimed else None
        makers = [self._makers[name] for name in node.input if name in self._makers]
        found = (self._weight(maker, depth - 1) for maker in makers if depth)
        return next((weight for weight in found if weight is not None), None)

    def _matrix(self, name: str) -> str | None:
        """Name of a weight, read directly or through one operator such as Transpose."""
        if name in self._weights:
            return name
        maker = self._makers.get(name)
        source = maker.input[0] if maker is not None and maker.input else None
        return source if source in self._weights else None


def _run(session: Any, model: ModelProto, batch: int) -> None:
    feed = {}
    for entry in model.graph.input:
        shape = [dim.dim_value or batch for dim in entry.type.tensor_type.shape.dim]
        dtype = tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
        feed[entry.name] = np.random.default_rng(0).random(shape).astype(dtype)
    until = time.monotonic() + _SECONDS
    for run in range(_WARMUP + _RUNS):
        session.run(None, feed)
        if run > _WARMUP and time.monotonic() > until:
            return


def _scaled(times: Mapping[str, float], latency_ms: float) -> dict[str, float]:
    factor = latency_ms / max(sum(times.values()), 1e-9)
    return {name: factor * value for name, value in times.items()}
