"""The canaries: four fixed networks measured before and after the visits to an architecture.

A neighbour on the same host inflates a small network more than a large one (on the machine this was
designed on .27 ms by 1.86 while .97 ms by 1.59), so one canary is not enough: several of different
latency give inflation as a function of latency. With the slowest at .9 ms, networks of .2-.9 ms
repeated within .1-.4 % even in a contended quarter of an hour, but those of 2-3.5 ms, whose weights
leave the core's own cache, within 3-5 % only: hence the fourth. They are pieces of ResNet-20 (He et
al. 2015, CIFAR form), because what is measured is made of the same operators; their weights are
drawn from a fixed seed, so every agent of this version measures the same networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto, helper

from latency_service.spaces.weightless import WEIGHTLESS, draw_weights

#: A change of the networks below, or of how they and the reference are read, changes every
#: calibration: it is a fact of the fingerprint.
CANARY_VERSION = 4
#: Old enough for every ONNX Runtime that the agent supports.
OPSET = 17
_SEED = 20150210
#: Time in the runs of one canary in one reading, and in one reading of all that are used at most.
CANARY_MS = 1.0
READING_MS = 250.0
#: The fastest canary's latency on the machine that this was designed on.
SERVER_MS = 0.1
#: Slowest run of the fastest canary with which anything can be measured: some 10,000 times slower
#: than a server.
SLOWEST_MS = 1000.0


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A chain of residual blocks of two 3x3 convolutions, stem and classifier around it."""

    name: str
    #: channels and pixels a side of each block; a change of either is a strided convolution without
    #: shortcut
    blocks: tuple[tuple[int, int], ...]
    #: in one reading, at least; the first finds cold caches
    least_runs: int = 3


#: Fastest first. On one x86 core with AVX2 at 3 GHz: about 0.1, 0.35, 0.9 and 3 ms.
CANARIES = (
    Canary(name="tiny", blocks=((16, 16), (16, 16), (32, 8))),
    Canary(name="half", blocks=((16, 32), (32, 16), (64, 8))),
    Canary(name="full", blocks=((16, 32),) * 3 + ((32, 16),) * 3 + ((64, 8),) * 3),
    Canary(name="wide", blocks=((32, 32),) * 3 + ((64, 16),) * 3 + ((128, 8),) * 3, least_runs=2),
)


def chosen(latency_ms: Callable[[Canary], float]) -> list[Canary]:
    """The canaries that a device reads often enough, fastest first: all of them unless one reading
    would take longer than `READING_MS`, and the fastest in any case.

    Args:
        latency_ms: gives the latency of one canary; asked for the fastest ones first, and for one
            that is left out at most.
    """
    found: list[Canary] = []
    left_ms = READING_MS
    for canary in CANARIES:
        left_ms -= max(CANARY_MS, canary.least_runs * latency_ms(canary))
        if found and left_ms < 0:
            break
        found.append(canary)
    return found


def build(canary: Canary) -> ModelProto:
    """The canary as an ONNX graph with weights: input ``x [1, 3, S, S] float32``, output ``y [1,
    10] float32``.
    """
    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []

    def convolution(source: str, target: str, c_in: int, c_out: int, stride: int) -> None:
        weights.append(_weight(f"{target}.w", c_out, c_in, 3, 3))
        weights.append(_weight(f"{target}.b", c_out))
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"{target}.w", f"{target}.b"],
                [target],
                kernel_shape=[3, 3],
                pads=[1, 1, 1, 1],
                strides=[stride, stride],
            )
        )

    channels, side = canary.blocks[0]
    convolution("x", "stem", 3, channels, 1)
    nodes.append(helper.make_node("Relu", ["stem"], ["a0"]))
    for number, (width, size) in enumerate(canary.blocks, start=1):
        before = f"a{number - 1}"
        first = f"c{number}.1"
        second = f"c{number}.2"
        after = f"a{number}"
        convolution(before, first, channels, width, side // size)
        nodes.append(helper.make_node("Relu", [first], [f"r{number}"]))
        convolution(f"r{number}", second, width, width, 1)
        total = second
        if (width, size) == (channels, side):
            total = f"s{number}"
            nodes.append(helper.make_node("Add", [second, before], [total]))
        nodes.append(helper.make_node("Relu", [total], [after]))
        channels = width
        side = size
    nodes.append(helper.make_node("GlobalAveragePool", [f"a{len(canary.blocks)}"], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    weights += [_weight("head.w", channels, 10), _weight("head.b", 10)]
    nodes.append(helper.make_node("Gemm", ["flat", "head.w", "head.b"], ["y"]))
    graph = helper.make_graph(
        nodes,
        canary.name,
        [
            helper.make_tensor_value_info(
                "x", TensorProto.FLOAT, [1, 3, canary.blocks[0][1], canary.blocks[0][1]]
            )
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return draw_weights(model, _SEED)


def _weight(name: str, *dims: int) -> TensorProto:
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL, dims=dims
    )
    tensor.external_data.add(key="location", value=WEIGHTLESS)
    return tensor
