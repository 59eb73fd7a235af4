"""Search spaces and their architectures: pure functions on ONNX graphs, without torch and without a
database.

A search space is one ONNX file whose weights are given by shape only (external tensors that point
nowhere) and whose metadata holds the manifest: which axes of which weights, and which numbers in
the graph, depend on which width group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from pydantic import ValidationError

from latency_service.core import graphs
from latency_service.core.arrays import Array, Bools, Ints
from latency_service.spaces.errors import SpaceError, WidthsError
from latency_service.spaces.plan import Keep, Plan, expand, make_plan
from latency_service.spaces.schemas import Manifest, Segment, WidthGroup
from latency_service.spaces.structure import check_structure
from latency_service.spaces.validation import check_manifest
from latency_service.spaces.weightless import is_weightless

MANIFEST_KEY = "latency_service.manifest"
#: Name of the batch dimension of every input; fixed by the target.
BATCH = "batch"


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchSpace:
    """A network's graph without its weights, and its width groups. Never changed, so one may be
    shared by threads; spaces are equal if their ids are.
    """

    #: Graph with weights given by shape only.
    model: ModelProto
    manifest: Manifest
    #: Content of the file, as it is sent and hashed.
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
        return graphs.opset_of(self.model)

    @cached_property
    def plan(self) -> Plan:
        """The manifest's segments, expanded."""
        return make_plan(self.manifest)

    @cached_property
    def template(self) -> ModelProto:
        """The graph at full width, without the manifest."""
        return _without_manifest(self.model)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse and validate a search space.

        Raises:
            SpaceError: the bytes are not an ONNX graph, hold no manifest, the manifest does not fit
                the graph, or the graph has what no search space may have.
        """
        model = _parse_graph(data)
        check_structure(model)
        return cls(model=model, manifest=_read_manifest(model), data=data)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a search space from a file that `save` wrote.

        Raises:
            SpaceError: the file cannot be read, or is not a search space.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise SpaceError(f"{path} cannot be read: {error.strerror}") from error
        return cls.from_bytes(data)

    def save(self, path: Path | str) -> Path:
        """Write the space to a file for ``latency-service campaigns create --space``."""
        file = Path(path)
        file.write_bytes(self.data)
        return file

    def check_widths(self, widths: Sequence[int]) -> None:
        """Raise `WidthsError` naming the first group whose width is invalid."""
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
    """Combine a weightless graph and its manifest into one content-addressed file."""
    model = _without_manifest(weightless)
    model.metadata_props.add(
        key=MANIFEST_KEY, value=manifest.model_dump_json(exclude_defaults=True)
    )
    return SearchSpace.from_bytes(model.SerializeToString(deterministic=True))


def _without_manifest(model: ModelProto) -> ModelProto:
    """A copy of a graph without the manifest in its metadata."""
    bare = ModelProto()
    bare.CopyFrom(model)
    kept = [entry for entry in bare.metadata_props if entry.key != MANIFEST_KEY]
    bare.ClearField("metadata_props")
    bare.metadata_props.extend(kept)
    return bare


def _parse_graph(data: bytes) -> ModelProto:
    try:
        return graphs.parse(data)
    except graphs.GraphError as error:
        raise SpaceError(str(error)) from error


def _read_manifest(model: ModelProto) -> Manifest:
    raw = next((entry.value for entry in model.metadata_props if entry.key == MANIFEST_KEY), None)
    if raw is None:
        raise SpaceError(
            "the graph holds no manifest: create it with pruning_client.SearchSpace.from_model"
        )
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise SpaceError(f"the manifest is not valid: {_first_of(error)}") from error
    check_manifest(model, manifest)
    return manifest


def _first_of(error: ValidationError) -> str:
    """The first finding, with its place."""
    found = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']} ({error.error_count()} in all)"


def materialise(
    space: SearchSpace,
    widths: Sequence[int],
    *,
    keep: Keep | None = None,
    weights: Mapping[str, Array] | None = None,
) -> ModelProto:
    """One architecture of the space as an ONNX graph.

    Args:
        widths: channels kept in each group [G].
        keep: for each group the indices kept, ascending [G][widths[g]]; by default the first ones.
        weights: the dense network's values by initializer name, also of scalars and settings that
            differ from those in the space. Without them the graph stays weightless (see
            `draw_weights`).

    Raises:
        WidthsError: a width is out of its group's range, or `keep` does not match it.
        SpaceError: `weights` lacks an initializer or has another shape.
    """
    return with_values(*cut(space, widths, keep=keep, weights=weights))


def cut(
    space: SearchSpace,
    widths: Sequence[int],
    *,
    keep: Keep | None = None,
    weights: Mapping[str, Array] | None = None,
) -> tuple[ModelProto, dict[str, Array]]:
    """One architecture as `materialise` makes it, with the values of its initializers beside the
    graph: in the graph, large ones would be copied again and again.

    Returns:
        The graph, and the values by initializer name; in the graph those initializers are as in the
        dense network.
    """
    space.check_widths(widths)
    plan = space.plan
    mask = plan.mask(_kept_channels(space, widths, keep))
    counts = [int(np.count_nonzero(mask[run])) for run in plan.runs]
    model = ModelProto()
    model.CopyFrom(space.template)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    # before the cuts: lists of positions hold values that depend on widths, and are cut themselves
    _set_values(model, initializers, plan, counts)
    values = {}
    for name, tensor in initializers.items():
        cuts = plan.cuts.get(name, ())
        if weights is not None and (is_weightless(tensor) or name in weights):
            values[name] = _take(_weight(tensor, weights), cuts, plan, mask)
        elif not is_weightless(tensor):
            if cuts:
                values[name] = _take(numpy_helper.to_array(tensor), cuts, plan, mask)
        else:
            for axis, run in cuts:
                tensor.dims[axis] = counts[run]
    return model, values


def with_values(model: ModelProto, values: Mapping[str, Array]) -> ModelProto:
    """Give initializers of a graph their values, in place, and return it."""
    for tensor in model.graph.initializer:
        if tensor.name in values:
            _store(tensor, values[tensor.name])
    return model


def resized(space: SearchSpace, counts: Sequence[int], arrays: Mapping[str, Array]) -> ModelProto:
    """The graph of a space with other initializers, wider ones as well, and shape values that fit.

    Args:
        counts: positions of each run of the space's plan.
        arrays: values by initializer name; those that are not given stay as they are.
    """
    model = ModelProto()
    model.CopyFrom(space.template)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, array in arrays.items():
        _store(initializers[name], array)
    _set_values(model, initializers, space.plan, counts)
    return model


def kept_positions(segments: Sequence[Segment], kept: Keep) -> Ints:
    """Positions of an axis that are kept, ascending, for the channels `kept` of each group [G]."""
    groups, channels = expand(segments)
    stays = groups < 0
    for group in np.unique(groups[~stays]):
        stays |= (groups == group) & np.isin(channels, kept[group])
    return np.flatnonzero(stays)


def _kept_channels(space: SearchSpace, widths: Sequence[int], keep: Keep | None) -> list[Ints]:
    if keep is None:
        return [np.arange(int(width)) for width in widths]
    if len(keep) != len(space.groups):
        raise WidthsError(f"`keep` has {len(keep)} entries for {len(space.groups)} width groups")
    kept = []
    for index, width, group in zip(keep, widths, space.groups, strict=True):
        channels = np.asarray(index, dtype=np.int64)
        if len(channels) != width or len(np.unique(channels)) != width:
            raise WidthsError(
                f"`keep` must name {width} distinct channels of group {group.name!r}, but names "
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
            f"weight {tensor.name!r} has shape {array.shape}, but the space requires "
            f"{tuple(tensor.dims)}"
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
