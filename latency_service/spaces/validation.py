"""Check of a manifest against its graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from latency_service.spaces.errors import SpaceError
from latency_service.spaces.schemas import Manifest, Segment, ShapeValue
from latency_service.spaces.weightless import is_weightless

#: Maximum number of positions on one axis: more than any network has, few enough to expand.
_MAX_POSITIONS = 1 << 24


def check_manifest(model: ModelProto, manifest: Manifest) -> None:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    for segments in [e.segments for e in manifest.slices] + [v.segments for v in manifest.values]:
        _check_segments(segments, manifest)
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
    for value in manifest.values:
        if value.initializer is not None:
            _check_constant(tensors.get(value.initializer), value)
        else:
            _check_attribute(nodes.get(value.node or ""), value)
    for group in manifest.groups:
        if group.minimum > group.width:
            raise SpaceError(
                f"the minimum {group.minimum} of group {group.name!r} is above its width "
                f"{group.width}"
            )


def _check_segments(segments: Sequence[Segment], manifest: Manifest) -> None:
    if sum(segment.count * segment.repeat for segment in segments) > _MAX_POSITIONS:
        raise SpaceError(f"the manifest has more than {_MAX_POSITIONS} positions on one axis")
    for segment in segments:
        if segment.group >= len(manifest.groups):
            raise SpaceError(
                f"a segment names width group {segment.group}, but there are {len(manifest.groups)}"
            )
        last = segment.start + segment.step * (segment.count - 1)
        if segment.group >= 0 and last >= manifest.groups[segment.group].width:
            raise SpaceError(
                f"a segment of {manifest.groups[segment.group].name!r} names channel {last}"
            )


def _check_constant(tensor: TensorProto | None, value: ShapeValue) -> None:
    if tensor is None:
        raise SpaceError(f"the manifest sets {value.initializer!r}, which the graph lacks")
    index = value.index or 0
    size = int(np.prod(tensor.dims))
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
    if attribute is None or (
        value.index is not None and not 0 <= value.index < len(attribute.ints)
    ):
        raise SpaceError(
            f"the manifest sets {value.attribute!r} of node {value.node!r}, which the graph lacks"
        )
