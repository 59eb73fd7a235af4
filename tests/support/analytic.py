"""A predictor whose truth is known: latency is a quadratic form of the widths, as one ONNX file by
hand.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from latency_service.devices.schemas import RuntimeConfig
from latency_service.predictors.schemas import ModelErrors, PredictorView, Sidecar
from latency_service.spaces.slicing import SearchSpace
from pruning_client.latency.predictor import LocalSource, Predictor
from pruning_client.testing.latency import coefficients

Floats = npt.NDArray[np.float64]
RIVALS = [
    ModelErrors(
        name=name,
        mape=mape,
        p90=2 * mape,
        within_5=60.0,
        within_10=95.0,
        spearman=0.98,
        differentiable=name == "lpnet",
    )
    for name, mape in (("lpnet", 3.0), ("flops-line", 11.0))
]


def quadratic(base: float, linear: npt.ArrayLike, square: npt.ArrayLike) -> bytes:
    """latency = base + w . linear + w' square w for widths w, with its exact gradient and an
    interval of 5 %.
    """
    b = np.asarray(linear, np.float32)
    a = np.asarray(square, np.float32)
    constants = {
        "base": np.float32(base),
        "linear": b,
        "square": a,
        "twice": (a + a.T).astype(np.float32),
        "low": np.float32(0.95),
        "high": np.float32(1.05),
        "last": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["widths", "square"], ["ws"]),
        helper.make_node("Mul", ["ws", "widths"], ["wsw"]),
        helper.make_node("ReduceSum", ["wsw", "last"], ["curved"], keepdims=0),
        helper.make_node("MatMul", ["widths", "linear"], ["straight"]),
        helper.make_node("Add", ["curved", "straight"], ["sum"]),
        helper.make_node("Add", ["sum", "base"], ["latency_ms"]),
        helper.make_node("Mul", ["latency_ms", "low"], ["lower_ms"]),
        helper.make_node("Mul", ["latency_ms", "high"], ["upper_ms"]),
        helper.make_node("MatMul", ["widths", "twice"], ["slope"]),
        helper.make_node("Add", ["slope", "linear"], ["gradient"]),
    ]
    groups = len(b)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B"])
        for name in ("latency_ms", "lower_ms", "upper_ms")
    ]
    outputs.append(helper.make_tensor_value_info("gradient", TensorProto.FLOAT, ["B", groups]))
    graph = helper.make_graph(
        nodes,
        "quadratic",
        [helper.make_tensor_value_info("widths", TensorProto.FLOAT, ["B", groups])],
        outputs,
        initializer=[
            numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())


def latency_ms(space: SearchSpace, widths: npt.ArrayLike) -> float:
    """The truth for one architecture."""
    base, linear, square = coefficients(space)
    w = np.asarray(widths, np.float64)
    return float(base + w @ linear + w @ square @ w)


def artifact(space: SearchSpace) -> bytes:
    return quadratic(*coefficients(space))


def lattice(space: SearchSpace, step: int = 4) -> list[list[int]]:
    return [
        sorted({w for w in range(group.minimum, group.width) if w % step == 0} | {group.width})
        for group in space.groups
    ]


def sidecar(space: SearchSpace, fingerprint: str = "f" * 64) -> Sidecar:
    grid = lattice(space)
    bounds = latency_ms(space, space.full_widths), latency_ms(space, [w[0] for w in grid])
    named = [group.name for group in space.groups]
    return sidecar_of(
        space.full_widths,
        grid,
        space_id=space.id,
        fingerprint=fingerprint,
        names=named,
        bounds=bounds,
    )


def sidecar_of(
    full: list[int],
    grid: list[list[int]],
    *,
    space_id: str = "5" * 64,
    fingerprint: str = "f" * 64,
    names: list[str] | None = None,
    bounds: tuple[float, float] = (1.0, 0.1),
) -> Sidecar:
    return Sidecar(
        space_id=space_id,
        fingerprint=fingerprint,
        model="lpnet",
        measurements=40,
        measurements_sha256="0" * 64,
        mape=3.0,
        repeat_difference=1.0,
        rivals=RIVALS,
        interval_coverage=0.9,
        groups=names or [f"group{g}" for g in range(len(full))],
        full_widths=full,
        minimum_widths=[choices[0] for choices in grid],
        lattice=grid,
        dense_ms=bounds[0],
        lowest_ms=bounds[1],
        trained_seconds=1.0,
        versions={},
    )


def view(made: Sidecar, artifact_sha256: str = "0" * 64) -> PredictorView:
    return PredictorView(
        id="predictor-1",
        space_id=made.space_id,
        target_id="target-1",
        device="board",
        runtime=RuntimeConfig(),
        version=1,
        stale=False,
        created_at=datetime(2025, 6, 1, tzinfo=UTC),
        artifact_sha256=artifact_sha256,
        sidecar=made,
    )


def predictor(space: SearchSpace) -> Predictor:
    """The truth as a predictor in this process."""
    return Predictor(view(sidecar(space)), LocalSource(artifact(space)))
