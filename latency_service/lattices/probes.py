"""Probe spaces: small networks with one width group each, swept to find a target's lattice.

A probe is an ordinary search space, measured by ordinary jobs. Its group lies between a producing layer and a consuming
one, since a width costs in both: as filters of the first and as input channels of the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from latency_service.spaces.layers import layers
from latency_service.spaces.schemas import AxisSlice, Manifest, Segment, ShapeValue, WidthGroup
from latency_service.spaces.slicing import BATCH, WEIGHTLESS, SearchSpace, build_space

OPSET = 20
#: Widest width of a probe, and of its sweep.
FULL = 64


@dataclass(frozen=True, kw_only=True)
class _Probe:
    #: channels before and after the group
    outer: int
    #: height and width of the image, pixels
    size: int
    kernel: int
    depthwise: bool = False


_PROBES = {
    "conv3x3": _Probe(outer=32, size=14, kernel=3),
    "conv1x1": _Probe(outer=64, size=28, kernel=1),
    "depthwise": _Probe(outer=32, size=28, kernel=1, depthwise=True),
}
#: Kinds of layer that can be swept.
PROBES: tuple[str, ...] = tuple(_PROBES)


def probe_widths(kind: str) -> list[list[int]]:
    """Width vectors [N][1] to measure for `kind`: two windows of neighbours.

    The second is longer than a block of 16 and ends at a multiple of every block size: a width can only be found
    dominated when the multiple above it was measured.
    """
    _known(kind)
    return [[width] for width in (*range(4, 17), *range(40, FULL + 1))]


def kinds_of_groups(space: SearchSpace) -> list[list[str]]:
    """For each width group the kinds of the layers whose filters it counts [G][...], names as in `PROBES`."""
    found: list[list[str]] = [[] for _ in space.groups]
    for layer in layers(space):
        dense = "conv3x3" if layer.taps > 1 else "conv1x1"
        kind = "depthwise" if layer.kind == "depthwise" else dense
        for g, coefficient in enumerate(layer.c_out.coefficients):
            if coefficient and kind not in found[g]:
                found[g].append(kind)
    return found


def kinds_of(space: SearchSpace) -> list[str]:
    """Kinds of layer that a target's lattice must know before `space` is sampled on it."""
    used = {kind for kinds in kinds_of_groups(space) for kind in kinds}
    return [kind for kind in PROBES if kind in used]


@lru_cache(maxsize=len(_PROBES))
def probe_space(kind: str) -> SearchSpace:
    """The search space swept for `kind`: input [batch, outer, size, size], one group of up to `FULL` channels."""
    probe = _known(kind)
    shape, pads = [probe.kernel, probe.kernel], [probe.kernel // 2] * 4
    nodes = [_conv("produce", "input", "wide", "a", shape, pads), _relu("wide", "active")]
    weights = {"a": [FULL, probe.outer, *shape], "a_bias": [FULL]}
    slices = [_slice("a", 0), _slice("a_bias", 0)]
    values: list[ShapeValue] = []
    if probe.depthwise:
        nodes += [_conv("spread", "active", "spread", "d", [3, 3], [1] * 4, group=FULL), _relu("spread", "last")]
        weights |= {"d": [FULL, 1, 3, 3], "d_bias": [FULL]}
        slices += [_slice("d", 0), _slice("d_bias", 0)]
        values.append(ShapeValue(node="spread", attribute="group", segments=[Segment(group=0, count=FULL)]))
    nodes.append(_conv("consume", nodes[-1].output[0], "output", "b", shape, pads))
    weights |= {"b": [probe.outer, FULL, *shape], "b_bias": [probe.outer]}
    slices.append(_slice("b", 1))
    name = f"probe-{kind}"
    manifest = Manifest(
        name=name,
        groups=[WidthGroup(name="width", width=FULL, minimum=1, members=["produce"])],
        slices=slices,
        values=values,
    )
    ends = [_image(end, probe.outer, probe.size) for end in ("input", "output")]
    graph = helper.make_graph(nodes, name, ends[:1], ends[1:], initializer=[_shape_only(*w) for w in weights.items()])
    return build_space(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9), manifest)


def _known(kind: str) -> _Probe:
    if kind not in _PROBES:
        raise ValueError(f"no probe for layers of kind {kind!r}: there are {', '.join(PROBES)}")
    return _PROBES[kind]


def _conv(
    name: str, source: str, target: str, weight: str, kernel: list[int], pads: list[int], group: int = 1
) -> NodeProto:
    inputs = [source, weight, f"{weight}_bias"]
    return helper.make_node("Conv", inputs, [target], name=name, kernel_shape=kernel, pads=pads, group=group)


def _relu(source: str, target: str) -> NodeProto:
    return helper.make_node("Relu", [source], [target], name=f"relu_{source}")


def _slice(initializer: str, axis: int) -> AxisSlice:
    return AxisSlice(initializer=initializer, axis=axis, segments=[Segment(group=0, count=FULL)])


def _image(name: str, channels: int, size: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, channels, size, size])


def _shape_only(name: str, dims: list[int]) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL, dims=dims)
    tensor.external_data.add(key="location", value=WEIGHTLESS)
    return tensor
