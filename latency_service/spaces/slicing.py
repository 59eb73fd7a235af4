"""Search spaces and their architectures: pure functions on ONNX graphs, without torch and without a
database.

A search space is one ONNX file whose weights are given by shape only (external tensors that point
nowhere) and whose metadata holds the manifest: which axes of which weights, and which numbers in
the graph, follow which width group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from latency_service.core.arrays import Array, Bools, Ints
from latency_service.spaces.plan import Plan, expand, make_plan
from latency_service.spaces.schemas import Manifest, Segment, ShapeValue, WidthGroup

MANIFEST_KEY = "latency_service.manifest"
#: Location of a weight that is given by shape only.
WEIGHTLESS = "weightless"
#: Name of the batch dimension of every input; fixed by the target.
BATCH = "batch"

#: More than any network has on one axis, and little enough to expand.
_MAX_POSITIONS = 1 << 24


class SpaceError(ValueError):
    """The search space or the widths asked of it are not valid; the message says which and what
    would be.
    """


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
        return int(
            max(
                entry.version
                for entry in self.model.opset_import
                if entry.domain in ("", "ai.onnx")
            )
        )

    @cached_property
    def plan(self) -> Plan:
        """The manifest's segments, expanded."""
        return make_plan(self.manifest)

    @cached_property
    def template(self) -> ModelProto:
        """The graph at full width, without the manifest."""
        bare = ModelProto()
        bare.CopyFrom(self.model)
        kept = [entry for entry in bare.metadata_props if entry.key != MANIFEST_KEY]
        bare.ClearField("metadata_props")
        bare.metadata_props.extend(kept)
        return bare

    def check_widths(self, widths: Sequence[int]) -> None:
        """Raise `WidthsError` naming the first group whose width is not possible."""
        if len(widths) != len(self.groups):
            names = ", ".join(group.name for group in self.groups)
            raise WidthsError(
                f"{len(widths)} widths given for {len(self.groups)} width groups: {names}"
            )
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
    model.metadata_props.add(
        key=MANIFEST_KEY, value=manifest.model_dump_json(exclude_defaults=True)
    )
    data = model.SerializeToString(deterministic=True)
    return load_space(data)


def load_space(data: bytes) -> SearchSpace:
    """Parse and validate a search space.

    Raises:
        SpaceError: the bytes are no ONNX graph, hold no manifest, or the manifest does not fit the
            graph.
    """
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise SpaceError(f"not an ONNX file: {error}") from error
    raw = next((entry.value for entry in model.metadata_props if entry.key == MANIFEST_KEY), None)
    if raw is None:
        raise SpaceError(
            "the graph holds no manifest: make it with pruning_client.SearchSpace.from_model"
        )
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
    keep: Sequence[Ints] | None = None,
    weights: Mapping[str, Array] | None = None,
) -> ModelProto:
    """One architecture of the space as an ONNX graph.

    Args:
        widths: channels kept in each group [G].
        keep: for each group the indices kept, ascending [G][widths[g]]; by default the first ones.
        weights: the dense network's values by initializer name. Without them the graph stays
            weightless (see `draw_weights`).

    Raises:
        WidthsError: a width is out of its group's range, or `keep` does not agree with it.
        SpaceError: `weights` lacks an initializer or has another shape.
    """
    space.check_widths(widths)
    plan = space.plan
    mask = plan.mask(_kept_channels(space, widths, keep))
    counts = [int(np.count_nonzero(mask[run])) for run in plan.runs]
    model = ModelProto()
    model.CopyFrom(space.template)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, tensor in initializers.items():
        cuts = plan.cuts.get(name, ())
        if not is_weightless(tensor):
            if cuts:
                _store(tensor, _take(numpy_helper.to_array(tensor), cuts, plan, mask))
        elif weights is not None:
            _store(tensor, _take(_weight(tensor, weights), cuts, plan, mask))
        else:
            for axis, run in cuts:
                tensor.dims[axis] = counts[run]
    _set_values(model, initializers, plan, counts)
    return model


def kept_positions(segments: Sequence[Segment], kept: Sequence[Ints]) -> Ints:
    """Positions of an axis that stay, ascending, when the channels `kept` of each group [G]
    stay.
    """
    groups, channels = expand(segments)
    stays = groups < 0
    for group, indices in enumerate(kept):
        stays |= (groups == group) & np.isin(channels, indices)
    return np.flatnonzero(stays)


def is_weightless(tensor: TensorProto) -> bool:
    """Whether a tensor is given by its shape only."""
    return tensor.data_location == TensorProto.EXTERNAL


#: Inputs of operators that are settings, not weights: without their values the graph would mean
#: something else.
_SETTINGS = {
    "Resize": (1, 2),
    "Upsample": (1,),
    "Clip": (1, 2),
    "Pad": (2,),
    "Dropout": (1,),
    "Pow": (1,),
}


def make_weightless(model: ModelProto) -> ModelProto:
    """The same graph with every floating-point weight given by its shape only; scalars and settings
    stay.
    """
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
            name = tensor.name
            dims = list(tensor.dims)
            kind = tensor.data_type
            tensor.Clear()
            tensor.name = name
            tensor.data_type = kind
            tensor.data_location = TensorProto.EXTERNAL
            tensor.dims.extend(dims)
            tensor.external_data.add(key="location", value=WEIGHTLESS)
    return bare


def draw_weights(model: ModelProto, seed: int = 0) -> ModelProto:
    """Fill every weight that is given by shape only, in place, and return the model.

    Matrices and kernels get N(0, 1/fan_in), vectors (biases, scales, variances) U(0.5, 1.5):
    activations stay of order one through any depth, far from denormals, which would make ONNX
    Runtime many times slower.
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
    space: SearchSpace, widths: Sequence[int], keep: Sequence[Ints] | None
) -> list[Ints]:
    if keep is None:
        return [np.arange(int(width)) for width in widths]
    if len(keep) != len(space.groups):
        raise WidthsError(f"`keep` has {len(keep)} entries for {len(space.groups)} width groups")
    kept = []
    for index, width, group in zip(keep, widths, space.groups, strict=True):
        channels = np.asarray(index, dtype=np.int64)
        if len(channels) != width or len(np.unique(channels)) != width:
            raise WidthsError(
                f"group {group.name!r} is to keep {width} channels, but `keep` names "
                f"{len(channels)}"
            )
        if channels.min() < 0 or channels.max() >= group.width:
            raise WidthsError(
                f"`keep` of group {group.name!r} names a channel outside 0..{group.width - 1}"
            )
        kept.append(channels)
    return kept


def _weight(tensor: TensorProto, weights: Mapping[str, Array]) -> Array:
    if tensor.name not in weights:
        raise SpaceError(f"no values given for the weight {tensor.name!r}")
    array = np.asarray(weights[tensor.name])
    if array.shape != tuple(tensor.dims):
        raise SpaceError(
            f"weight {tensor.name!r} has shape {array.shape}, the space says {tuple(tensor.dims)}"
        )
    return array.astype(helper.tensor_dtype_to_np_dtype(tensor.data_type), copy=False)


def _take(array: Array, cuts: Iterable[tuple[int, int]], plan: Plan, mask: Bools) -> Array:
    for axis, run in cuts:
        array = np.compress(mask[plan.runs[run]], array, axis=axis)
    return array


def _store(tensor: TensorProto, array: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def _set_values(
    model: ModelProto, initializers: Mapping[str, TensorProto], plan: Plan, counts: Sequence[int]
) -> None:
    nodes = {node.name: node for node in model.graph.node}
    constants: dict[str, Array] = {}
    for value, run in plan.values:
        count = counts[run] // value.divisor
        if value.initializer is not None:
            if value.initializer not in constants:
                constants[value.initializer] = numpy_helper.to_array(
                    initializers[value.initializer]
                ).copy()
            constants[value.initializer][value.index or 0] = count
        else:
            attribute = next(
                a for a in nodes[str(value.node)].attribute if a.name == value.attribute
            )
            if value.index is None:
                attribute.i = count
            else:
                attribute.ints[value.index] = count
    for name, array in constants.items():
        _store(initializers[name], array)


def _check_manifest(model: ModelProto, manifest: Manifest) -> None:
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
        raise SpaceError(f"the manifest counts more than {_MAX_POSITIONS} positions on one axis")
    for segment in segments:
        if segment.group >= len(manifest.groups):
            raise SpaceError(
                f"a segment names width group {segment.group} of {len(manifest.groups)}"
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
            f"the manifest sets element {index} of {value.initializer!r}, which is no integer "
            "constant"
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
