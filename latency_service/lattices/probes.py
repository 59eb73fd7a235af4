"""Probe spaces: small networks with one width group each, swept to find a target's lattice.

A probe is an ordinary search space, measured by ordinary jobs. Its group lies between a producing
layer and a consuming one, since a width costs in both: as filters of the first and as input
channels of the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from latency_service.spaces.layers import Layer, layers
from latency_service.spaces.schemas import AxisSlice, Manifest, Segment, ShapeValue, WidthGroup
from latency_service.spaces.slicing import BATCH, SearchSpace, build_space
from latency_service.spaces.weightless import WEIGHTLESS

OPSET = 20
#: Widest width of a probe, and of its sweep: a multiple of every block size that is looked for.
FULL = 160


@dataclass(frozen=True, kw_only=True)
class _Probe:
    #: Channels before and after the group.
    outer: int
    #: Height and width of the image, pixels; None for a linear layer.
    size: int = 0
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False


_PROBES = {
    "conv3x3": _Probe(outer=32, size=14, kernel=3),
    "conv1x1": _Probe(outer=64, size=28),
    "depthwise": _Probe(outer=32, size=28, depthwise=True),
    "strided": _Probe(outer=32, size=28, kernel=3, stride=2),
    "linear": _Probe(outer=2048),
}
#: Kinds of layer that can be swept.
PROBES: tuple[str, ...] = tuple(_PROBES)


def kinds_of_groups(space: SearchSpace) -> list[list[str]]:
    """For each width group the kinds of the layers whose filters it counts [G][...], names as in
    `PROBES`.
    """
    found: list[list[str]] = [[] for _ in space.groups]
    for layer in layers(space):
        kind = _kind_of(layer)
        for g, coefficient in enumerate(layer.c_out.coefficients):
            if coefficient and kind not in found[g]:
                found[g].append(kind)
    return found


def _kind_of(layer: Layer) -> str:
    """The probe of a layer: strides matter where a kernel looks at neighbours."""
    if layer.kind in ("depthwise", "linear"):
        return layer.kind
    if layer.taps == 1:
        return "conv1x1"
    return "strided" if layer.stride > 1 and layer.kind != "transposed" else "conv3x3"


def kinds_of(space: SearchSpace) -> list[str]:
    """Kinds of layer that a target's lattice must know before `space` is sampled on it."""
    used = {kind for kinds in kinds_of_groups(space) for kind in kinds}
    return [kind for kind in PROBES if kind in used]


@lru_cache(maxsize=len(_PROBES))
def probe_space(kind: str) -> SearchSpace:
    """The search space swept for `kind`: one group of up to `FULL` channels between two layers of
    that kind.

    Its input is [batch, outer, size, size], and [batch, outer] for linear layers.
    """
    probe = _known(kind)
    nodes, weights, slices, values = _linear(probe) if kind == "linear" else _convolutions(probe)
    name = f"probe-{kind}"
    manifest = Manifest(
        name=name,
        groups=[WidthGroup(name="width", width=FULL, minimum=1, members=["produce"])],
        slices=slices,
        values=values,
    )
    ends = [_end(end, probe) for end in ("input", "output")]
    graph = helper.make_graph(
        nodes, name, ends[:1], ends[1:], initializer=[_shape_only(*w) for w in weights.items()]
    )
    return build_space(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9),
        manifest,
    )


def _known(kind: str) -> _Probe:
    if kind not in _PROBES:
        raise ValueError(f"no probe for layers of kind {kind!r}: there are {', '.join(PROBES)}")
    return _PROBES[kind]


_Parts = tuple[list[NodeProto], dict[str, list[int]], list[AxisSlice], list[ShapeValue]]


def _convolutions(probe: _Probe) -> _Parts:
    shape = [probe.kernel] * 2
    pads = [probe.kernel // 2] * 4
    strides = [probe.stride] * 2
    nodes = [_conv("produce", "input", "wide", "a", shape, pads, strides), _relu("wide", "active")]
    weights = {"a": [FULL, probe.outer, *shape], "a_bias": [FULL]}
    slices = [_slice("a", 0), _slice("a_bias", 0)]
    values: list[ShapeValue] = []
    if probe.depthwise:
        nodes += [_conv("spread", "active", "spread", "d", [3, 3], [1] * 4, [1, 1], group=FULL)]
        nodes.append(_relu("spread", "last"))
        weights |= {"d": [FULL, 1, 3, 3], "d_bias": [FULL]}
        slices += [_slice("d", 0), _slice("d_bias", 0)]
        values.append(
            ShapeValue(node="spread", attribute="group", segments=[Segment(group=0, count=FULL)])
        )
    nodes.append(_conv("consume", nodes[-1].output[0], "output", "b", shape, pads, strides))
    weights |= {"b": [probe.outer, FULL, *shape], "b_bias": [probe.outer]}
    return nodes, weights, [*slices, _slice("b", 1)], values


def _linear(probe: _Probe) -> _Parts:
    nodes = [
        _gemm("produce", "input", "wide", "a"),
        _relu("wide", "active"),
        _gemm("consume", "active", "output", "b"),
    ]
    weights = {
        "a": [FULL, probe.outer],
        "a_bias": [FULL],
        "b": [probe.outer, FULL],
        "b_bias": [probe.outer],
    }
    return nodes, weights, [_slice("a", 0), _slice("a_bias", 0), _slice("b", 1)], []


def _conv(
    name: str,
    source: str,
    target: str,
    weight: str,
    kernel: list[int],
    pads: list[int],
    strides: list[int],
    group: int = 1,
) -> NodeProto:
    inputs = [source, weight, f"{weight}_bias"]
    return helper.make_node(
        "Conv",
        inputs,
        [target],
        name=name,
        kernel_shape=kernel,
        pads=pads,
        strides=strides,
        group=group,
    )


def _gemm(name: str, source: str, target: str, weight: str) -> NodeProto:
    return helper.make_node(
        "Gemm", [source, weight, f"{weight}_bias"], [target], name=name, transB=1
    )


def _relu(source: str, target: str) -> NodeProto:
    return helper.make_node("Relu", [source], [target], name=f"relu_{source}")


def _slice(initializer: str, axis: int) -> AxisSlice:
    return AxisSlice(initializer=initializer, axis=axis, segments=[Segment(group=0, count=FULL)])


def _end(name: str, probe: _Probe) -> ValueInfoProto:
    size = probe.size // probe.stride**2 if name == "output" else probe.size
    image = [size, size] if size else []
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, probe.outer, *image])


def _shape_only(name: str, dims: list[int]) -> TensorProto:
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL, dims=dims
    )
    tensor.external_data.add(key="location", value=WEIGHTLESS)
    return tensor
