"""Search spaces and their architectures: pure functions on ONNX graphs, without torch and without a database.

A search space is one ONNX file whose weights are given by shape only (external tensors that point nowhere) and whose
metadata holds the manifest: which axes of which weights, and which numbers in the graph, follow which width group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from latency_service.spaces.schemas import Manifest, Segment, WidthGroup

MANIFEST_KEY = "latency_service.manifest"
#: Location of a weight that is given by shape only.
WEIGHTLESS = "weightless"
#: Name of the batch dimension of every input; fixed by the target.
BATCH = "batch"

Keep = Mapping[int, npt.NDArray[np.int64]]


class SpaceError(ValueError):
    """The search space or the widths asked of it are not valid; the message says which and what would be."""


class WidthsError(SpaceError):
    """The widths do not fit the space's groups."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """A network's graph without its weights, and its width groups."""

    #: the graph, weights by shape only
    model: ModelProto
    manifest: Manifest
    #: the file's bytes: what travels and what is hashed
    data: bytes

    @cached_property
    def id(self) -> str:
        """SHA-256 of the file, 64 hex digits."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def groups(self) -> list[WidthGroup]:
        return self.manifest.groups

    @property
    def full_widths(self) -> list[int]:
        """Width of every group in the dense network [G]."""
        return [group.width for group in self.manifest.groups]

    @property
    def opset(self) -> int:
        return int(max(entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")))

    def check_widths(self, widths: Sequence[int]) -> None:
        """Raise `WidthsError` naming the first group whose width is not possible."""
        if len(widths) != len(self.groups):
            names = ", ".join(group.name for group in self.groups)
            raise WidthsError(f"{len(widths)} widths given for {len(self.groups)} width groups: {names}")
        for width, group in zip(widths, self.groups, strict=True):
            if int(width) != width or not group.minimum <= width <= group.width:
                raise WidthsError(
                    f"width {width} of group {group.name!r} is out of range: "
                    f"give a whole number from {group.minimum} to {group.width}"
                )


def build_space(weightless: ModelProto, manifest: Manifest) -> SearchSpace:
    """Seal a weightless graph and its manifest into one content-addressed file."""
    model = ModelProto()
    model.CopyFrom(weightless)
    kept = [entry for entry in model.metadata_props if entry.key != MANIFEST_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=MANIFEST_KEY, value=manifest.model_dump_json(exclude_defaults=True))
    data = model.SerializeToString(deterministic=True)
    return load_space(data)


def load_space(data: bytes) -> SearchSpace:
    """Parse and validate a search space.

    Raises:
        SpaceError: the bytes are no ONNX graph, hold no manifest, or the manifest does not fit the graph.
    """
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise SpaceError(f"not an ONNX file: {error}") from error
    raw = next((entry.value for entry in model.metadata_props if entry.key == MANIFEST_KEY), None)
    if raw is None:
        raise SpaceError("the graph holds no manifest: make it with pruning_client.SearchSpace.from_model")
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValueError as error:
        raise SpaceError(f"the manifest is not valid: {error}") from error
    _check_manifest(model, manifest)
    return SearchSpace(model=model, manifest=manifest, data=data)


def materialise(
    space: SearchSpace,
    widths: Sequence[int],
    *,
    keep: Sequence[npt.NDArray[np.int64]] | None = None,
    weights: Mapping[str, npt.NDArray[np.generic]] | None = None,
) -> ModelProto:
    """One architecture of the space as an ONNX graph.

    Args:
        widths: channels kept in each group [G].
        keep: for each group the indices kept, ascending [G][widths[g]]; by default the first ones.
        weights: the dense network's values by initializer name. Without them the graph stays weightless
            (see `draw_weights`).

    Raises:
        WidthsError: a width is out of its group's range, or `keep` does not agree with it.
        SpaceError: `weights` lacks an initializer or has another shape.
    """
    space.check_widths(widths)
    kept = _kept_channels(space, widths, keep)
    masks: dict[tuple[Segment, ...], npt.NDArray[np.int64]] = {}

    def positions(segments: Sequence[Segment]) -> npt.NDArray[np.int64]:
        key = tuple(segments)
        if key not in masks:
            masks[key] = kept_positions(segments, kept)
        return masks[key]

    model = ModelProto()
    model.CopyFrom(space.model)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    axes: dict[str, list[tuple[int, npt.NDArray[np.int64]]]] = {}
    for entry in space.manifest.slices:
        axes.setdefault(entry.initializer, []).append((entry.axis, positions(entry.segments)))
    for name, cuts in axes.items():
        tensor = initializers[name]
        if is_weightless(tensor):
            for axis, index in cuts:
                tensor.dims[axis] = len(index)
        else:
            array = numpy_helper.to_array(tensor)
            for axis, index in cuts:
                array = np.take(array, index, axis=axis)
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    if weights is not None:
        _fill(initializers, space, weights, axes)
    _set_values(model, initializers, space, positions)
    return model


def kept_positions(segments: Sequence[Segment], kept: Keep) -> npt.NDArray[np.int64]:
    """Positions of an axis that stay, ascending, when the channels `kept` (by group) stay."""
    parts: list[npt.NDArray[np.int64]] = []
    offset = 0
    for segment in segments:
        size = segment.count * segment.repeat
        if segment.group < 0:
            parts.append(np.arange(offset, offset + size))
        else:
            channels = segment.start + segment.step * (np.arange(size) // segment.repeat)
            parts.append(offset + np.flatnonzero(np.isin(channels, kept[segment.group])))
        offset += size
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def is_weightless(tensor: TensorProto) -> bool:
    """Whether a tensor is given by its shape only."""
    return tensor.data_location == TensorProto.EXTERNAL


#: Inputs of operators that are settings, not weights: without their values the graph would mean something else.
_SETTINGS = {"Resize": (1, 2), "Upsample": (1,), "Clip": (1, 2), "Pad": (2,), "Dropout": (1,), "Pow": (1,)}


def make_weightless(model: ModelProto) -> ModelProto:
    """The same graph with every floating-point weight given by its shape only; scalars and settings stay."""
    bare = ModelProto()
    bare.CopyFrom(model)
    settings = {
        node.input[index]
        for node in bare.graph.node
        for index in _SETTINGS.get(node.op_type, ())
        if index < len(node.input)
    }
    for tensor in bare.graph.initializer:
        floating = tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
        if floating and tensor.dims and tensor.name not in settings:
            name, dims, kind = tensor.name, list(tensor.dims), tensor.data_type
            tensor.Clear()
            tensor.name, tensor.data_type, tensor.data_location = name, kind, TensorProto.EXTERNAL
            tensor.dims.extend(dims)
            tensor.external_data.add(key="location", value=WEIGHTLESS)
    return bare


def draw_weights(model: ModelProto, seed: int = 0) -> ModelProto:
    """Fill every weight that is given by shape only, in place, and return the model.

    Matrices and kernels get N(0, 1/fan_in), vectors (biases, scales, variances) U(0.5, 1.5): activations stay of
    order one through any depth, far from denormals, which would make ONNX Runtime many times slower.
    """
    pool = np.random.default_rng(seed).standard_normal(1 << 16, dtype=np.float32)
    for tensor in model.graph.initializer:
        if not is_weightless(tensor):
            continue
        dims = tuple(tensor.dims)
        size = int(np.prod(dims))
        if len(dims) < 2:
            values: npt.NDArray[np.floating] = 0.5 + np.abs(np.resize(pool, size)) % 1.0
        else:
            values = np.resize(pool, size) / np.float32(np.sqrt(max(1, np.prod(dims[1:]))))
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        tensor.CopyFrom(numpy_helper.from_array(values.reshape(dims).astype(dtype), tensor.name))
    return model


def _kept_channels(
    space: SearchSpace, widths: Sequence[int], keep: Sequence[npt.NDArray[np.int64]] | None
) -> dict[int, npt.NDArray[np.int64]]:
    if keep is None:
        return {g: np.arange(int(width)) for g, width in enumerate(widths)}
    if len(keep) != len(space.groups):
        raise WidthsError(f"`keep` has {len(keep)} entries for {len(space.groups)} width groups")
    kept: dict[int, npt.NDArray[np.int64]] = {}
    for g, (index, width, group) in enumerate(zip(keep, widths, space.groups, strict=True)):
        channels = np.asarray(index, dtype=np.int64)
        if len(channels) != width or len(np.unique(channels)) != width:
            raise WidthsError(f"group {group.name!r} is to keep {width} channels, but `keep` names {len(channels)}")
        if channels.min() < 0 or channels.max() >= group.width:
            raise WidthsError(f"`keep` of group {group.name!r} names a channel outside 0..{group.width - 1}")
        kept[g] = np.sort(channels)
    return kept


def _fill(
    initializers: Mapping[str, TensorProto],
    space: SearchSpace,
    weights: Mapping[str, npt.NDArray[np.generic]],
    axes: Mapping[str, list[tuple[int, npt.NDArray[np.int64]]]],
) -> None:
    full = {tensor.name: tuple(tensor.dims) for tensor in space.model.graph.initializer}
    for name, tensor in initializers.items():
        if not is_weightless(tensor):
            continue
        if name not in weights:
            raise SpaceError(f"no values given for the weight {name!r}")
        array = np.asarray(weights[name])
        if array.shape != full[name]:
            raise SpaceError(f"weight {name!r} has shape {array.shape}, the space says {full[name]}")
        for axis, index in axes.get(name, ()):
            array = np.take(array, index, axis=axis)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array, dtype=dtype), name))


def _set_values(
    model: ModelProto,
    initializers: Mapping[str, TensorProto],
    space: SearchSpace,
    positions: Callable[[Sequence[Segment]], npt.NDArray[np.int64]],
) -> None:
    nodes = {node.name: node for node in model.graph.node}
    constants: dict[str, npt.NDArray[np.int64]] = {}
    for value in space.manifest.values:
        count = len(positions(value.segments)) // value.divisor if value.segments else 0
        if value.initializer is not None:
            if value.initializer not in constants:
                constants[value.initializer] = numpy_helper.to_array(initializers[value.initializer]).copy()
            constants[value.initializer][value.index or 0] = count
        else:
            attribute = next(a for a in nodes[str(value.node)].attribute if a.name == value.attribute)
            if value.index is None:
                attribute.i = count
            else:
                attribute.ints[value.index] = count
    for name, array in constants.items():
        initializers[name].CopyFrom(numpy_helper.from_array(array, name))


def _check_manifest(model: ModelProto, manifest: Manifest) -> None:
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    groups = len(manifest.groups)
    for entry in manifest.slices:
        if entry.initializer not in dims or entry.axis >= len(dims[entry.initializer]):
            raise SpaceError(f"the manifest slices axis {entry.axis} of {entry.initializer!r}, which the graph lacks")
        size = sum(segment.count * segment.repeat for segment in entry.segments)
        if size != dims[entry.initializer][entry.axis]:
            raise SpaceError(f"the segments of {entry.initializer!r} axis {entry.axis} cover {size} positions")
    for value in manifest.values:
        if value.initializer is not None:
            if value.initializer not in dims:
                raise SpaceError(f"the manifest sets {value.initializer!r}, which the graph lacks")
        elif value.node not in nodes or all(a.name != value.attribute for a in nodes[value.node].attribute):
            raise SpaceError(f"the manifest sets {value.attribute!r} of node {value.node!r}, which the graph lacks")
    for segments in [e.segments for e in manifest.slices] + [v.segments for v in manifest.values]:
        for segment in segments:
            if segment.group >= groups:
                raise SpaceError(f"a segment names width group {segment.group} of {groups}")
            last = segment.start + segment.step * (segment.count - 1)
            if segment.group >= 0 and last >= manifest.groups[segment.group].width:
                raise SpaceError(f"a segment of {manifest.groups[segment.group].name!r} names channel {last}")
