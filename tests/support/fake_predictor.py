"""A predictor made by hand: latency is affine in the widths."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from latency_service.predictors.schemas import CoveragePoint, HeldOut, Sidecar

SLOPES = (0.01, 0.03)
BASE_MS = 0.5


def artifact(slopes: tuple[float, ...] = SLOPES, base_ms: float = BASE_MS) -> bytes:
    """The contract's one ONNX file: latency_ms = base + widths @ slopes, its gradient, and an
    interval of 10 %.
    """
    weights = {
        "slopes": np.float32(slopes),
        "base": np.float32(base_ms),
        "low": np.float32(0.9),
        "high": np.float32(1.1),
    }
    nodes = [
        helper.make_node("MatMul", ["widths", "slopes"], ["sum"]),
        helper.make_node("Add", ["sum", "base"], ["latency_ms"]),
        helper.make_node("Mul", ["latency_ms", "low"], ["lower_ms"]),
        helper.make_node("Mul", ["latency_ms", "high"], ["upper_ms"]),
        helper.make_node("Shape", ["widths"], ["shape"]),
        helper.make_node("Expand", ["slopes", "shape"], ["gradient"]),
    ]
    vector = ["latency_ms", "lower_ms", "upper_ms"]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B"]) for name in vector]
    outputs.append(helper.make_tensor_value_info("gradient", TensorProto.FLOAT, ["B", len(slopes)]))
    inputs = [helper.make_tensor_value_info("widths", TensorProto.FLOAT, ["B", len(slopes)])]
    constants = [
        numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()
    ]
    graph = helper.make_graph(nodes, "affine", inputs, outputs, initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def sidecar(space_id: str, fingerprint: str) -> Sidecar:
    return Sidecar(
        space_id=space_id,
        fingerprint=fingerprint,
        model="flops-line",
        measurements=8,
        measurements_sha256="0" * 64,
        mape=1.0,
        repeat_difference=0.5,
        rivals=[],
        interval_coverage=0.9,
        groups=["conv0", "conv1"],
        full_widths=[16, 16],
        minimum_widths=[2, 2],
        lattice=[[4, 8, 12, 16], [4, 8, 12, 16]],
        dense_ms=BASE_MS + 16 * sum(SLOPES),
        lowest_ms=BASE_MS + 2 * sum(SLOPES),
        trained_seconds=0.1,
        versions={},
    )


def held_out() -> HeldOut:
    """Eight architectures, predicted alternately 2 % too high and 3 % too low."""
    widths = [[float(4 + w), float(16 - w)] for w in range(8)]
    predicted = [BASE_MS + SLOPES[0] * a + SLOPES[1] * b for a, b in widths]
    return HeldOut(
        widths=widths,
        measured_ms=[ms / (1.02 if row % 2 else 0.97) for row, ms in enumerate(predicted)],
        predicted_ms=predicted,
        coverage=[CoveragePoint(nominal=0.9, empirical=0.875)],
    )
