"""A search space of two groups that takes microseconds to run, and campaigns over it."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

from onnx import TensorProto, helper

from latency_service.measurements.schemas import Protocol
from latency_service.spaces.schemas import AxisSlice, Manifest, Segment, WidthGroup
from latency_service.spaces.slicing import BATCH, SearchSpace, build_space
from latency_service.spaces.weightless import WEIGHTLESS

CHANNELS = 16
#: Precise enough to run the whole path, and quick.
QUICK = Protocol(
    half_width=0.9,
    min_rounds=3,
    max_rounds=4,
    round_ms=0.5,
    warmup_min_runs=1,
    warmup_min_seconds=0.0,
    budget_seconds=2.0,
)


def tiny_space() -> SearchSpace:
    """Three 3x3 convolutions in a row on 8x8 images; the outputs of the first two are the width
    groups.
    """
    channels = (3, CHANNELS, CHANNELS, 8)
    nodes = []
    weights = []
    for i, (c_in, c_out) in enumerate(pairwise(channels)):
        source = "input" if i == 0 else f"active{i - 1}"
        target = "output" if i == 2 else f"wide{i}"
        nodes.append(
            helper.make_node("Conv", [source, f"w{i}"], [target], name=f"conv{i}", pads=[1] * 4)
        )
        if i < 2:
            nodes.append(helper.make_node("Relu", [target], [f"active{i}"], name=f"relu{i}"))
        weights.append(_shape_only(f"w{i}", [c_out, c_in, 3, 3]))
    manifest = Manifest(
        name="tiny",
        groups=[
            WidthGroup(name=f"conv{g}", width=CHANNELS, minimum=2, members=[f"conv{g}"])
            for g in range(2)
        ],
        slices=[_slice("w0", 0, 0), _slice("w1", 1, 0), _slice("w1", 0, 1), _slice("w2", 1, 1)],
        values=[],
    )
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, size, 8, 8])
        for name, size in (("input", 3), ("output", 8))
    ]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], initializer=weights)
    return build_space(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        manifest,
    )


def campaign_of(space: SearchSpace, count: int, device: str = "board") -> dict[str, Any]:
    """A request to measure `count` different architectures, four a job."""
    widths = [list(pair) for pair in product(range(2, CHANNELS + 1), repeat=2)][:count]
    return {
        "space_id": space.id,
        "device": device,
        "purpose": "measure",
        "widths": widths,
        "batch_size": 4,
        "protocol": QUICK.model_dump(),
    }


def _slice(initializer: str, axis: int, group: int) -> AxisSlice:
    return AxisSlice(
        initializer=initializer, axis=axis, segments=[Segment(group=group, count=CHANNELS)]
    )


def _shape_only(name: str, dims: list[int]) -> TensorProto:
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL, dims=dims
    )
    tensor.external_data.add(key="location", value=WEIGHTLESS)
    return tensor
