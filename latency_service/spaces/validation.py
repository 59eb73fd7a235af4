"""Check of a manifest against its graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from latency_service.spaces.errors import SpaceError
from latency_service.spaces.schemas import Manifest, Segment, ShapeValue, WidthGroup
from latency_service.spaces.weightless import is_weightless

#: Channels of all width groups, and positions of all sliced axes and shape values together: more
#: than any network has, few enough to expand.
_MAX_CHANNELS = 1 << 20
_MAX_POSITIONS = 1 << 23
#: Width groups times weighted layers: the channels of each layer are a sum over all groups.
_MAX_COEFFICIENTS = 2_000_000
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def check_manifest(model: ModelProto, manifest: Manifest) -> None:
    """Check a manifest against its graph, whose form has been checked.

    Raises:
        SpaceError: it names what the graph lacks, or goes over a limit.
    """
    _check_extent(model, manifest)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    for segments in [e.segments for e in manifest.slices] + [v.segments for v in manifest.values]:
        _check_segments(segments, manifest)
    _check_slices(manifest, tensors)
    _check_channels(manifest)
    for value in manifest.values:
        if value.initializer is not None:
            _check_constant(tensors.get(value.initializer), value)
        else:
            _check_attribute(nodes.get(value.node or ""), value)


def _check_extent(model: ModelProto, manifest: Manifest) -> None:
    _check_groups(manifest.groups)
    layers = sum(node.op_type in WEIGHTED for node in model.graph.node)
    _check_total("width groups times layers", len(manifest.groups) * layers, _MAX_COEFFICIENTS)
    runs = [*(entry.segments for entry in manifest.slices)]
    runs += [value.segments for value in manifest.values]
    positions = sum(segment.count * segment.repeat for run in runs for segment in run)
    _check_total("positions on its axes", positions, _MAX_POSITIONS)


def _check_groups(groups: Sequence[WidthGroup]) -> None:
    names = [group.name for group in groups]
    if len(set(names)) != len(names):
        raise SpaceError("two width groups have one name")
    _check_total("channels in its width groups", sum(g.width for g in groups), _MAX_CHANNELS)
    for group in groups:
        if group.minimum > group.width:
            raise SpaceError(
                f"the minimum {group.minimum} of group {group.name!r} is above its width "
                f"{group.width}"
            )


def _check_total(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise SpaceError(f"the manifest has {count} {what}, {limit} are permitted")


def _check_slices(manifest: Manifest, tensors: Mapping[str, TensorProto]) -> None:
    axes = [(entry.initializer, entry.axis) for entry in manifest.slices]
    if len(set(axes)) != len(axes):
        raise SpaceError("the manifest slices one axis twice")
    for entry in manifest.slices:
        if entry.initializer not in tensors or entry.axis >= len(tensors[entry.initializer].dims):
            raise SpaceError(
                f"the manifest slices axis {entry.axis} of {entry.initializer!r}, which the "
                "graph lacks"
            )
        size = sum(segment.count * segment.repeat for segment in entry.segments)
        if size != tensors[entry.initializer].dims[entry.axis]:
            raise SpaceError(
                f"the segments of {entry.initializer!r} axis {entry.axis} cover {size} positions"
            )


def _check_channels(manifest: Manifest) -> None:
    """Every group's channels lie on some axis, up to its last one."""
    highest = [-1] * len(manifest.groups)
    for entry in manifest.slices:
        for segment in entry.segments:
            if segment.group >= 0:
                highest[segment.group] = max(highest[segment.group], _last(segment))
    for group, last in zip(manifest.groups, highest, strict=True):
        if last != group.width - 1:
            raise SpaceError(
                f"group {group.name!r} is {group.width} wide, but the slices name its channels up "
                f"to {last} only"
            )


def _last(segment: Segment) -> int:
    """The last channel that a segment names."""
    return max(segment.start, segment.start + segment.step * (segment.count - 1))


def _check_segments(segments: Sequence[Segment], manifest: Manifest) -> None:
    for segment in segments:
        if segment.group >= len(manifest.groups):
            raise SpaceError(
                f"a segment names width group {segment.group}, but there are {len(manifest.groups)}"
            )
        last = _last(segment)
        if segment.group >= 0 and last >= manifest.groups[segment.group].width:
            raise SpaceError(
                f"a segment of {manifest.groups[segment.group].name!r} names channel {last}"
            )


def _check_constant(tensor: TensorProto | None, value: ShapeValue) -> None:
    if tensor is None:
        raise SpaceError(f"the manifest sets {value.initializer!r}, which the graph lacks")
    index = value.index or 0
    size = math.prod(tensor.dims)
    if tensor.data_type != TensorProto.INT64 or is_weightless(tensor) or not 0 <= index < size:
        raise SpaceError(
            f"the manifest sets element {index} of {value.initializer!r}, which is not an "
            "integer constant"
        )


def _check_attribute(node: NodeProto | None, value: ShapeValue) -> None:
    attribute = (
        None
        if node is None
        else next((a for a in node.attribute if a.name == value.attribute), None)
    )
    if attribute is None or not _has_number(attribute, value.index):
        raise SpaceError(
            f"the manifest sets {value.attribute!r} of node {value.node!r}, which the graph lacks"
        )


def _has_number(attribute: AttributeProto, index: int | None) -> bool:
    if index is None:
        return attribute.type == AttributeProto.INT
    return attribute.type == AttributeProto.INTS and 0 <= index < len(attribute.ints)
