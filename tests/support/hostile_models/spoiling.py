"""Valid files, and copies of them that a function has spoilt."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from latency_service.spaces.slicing import MANIFEST_KEY, materialise
from latency_service.spaces.weightless import WEIGHTLESS, draw_weights
from tests.support import small_spaces

Spoil = Callable[[ModelProto], None]


@lru_cache(maxsize=1)
def valid_space() -> bytes:
    """The small space: conv, depthwise, conv, reshape, gemm."""
    return small_spaces.space().data


@lru_cache(maxsize=1)
def valid_model() -> bytes:
    """A delivered file of the small space."""
    model = draw_weights(materialise(small_spaces.space(), small_spaces.WIDTHS))
    return bytes(model.SerializeToString())


def spoilt(spoil: Spoil, valid: Callable[[], bytes] = valid_space) -> Callable[[], bytes]:
    """Builder of a valid file after `spoil`, by default of the small space's."""

    def build() -> bytes:
        model = ModelProto.FromString(valid())
        spoil(model)
        return bytes(model.SerializeToString())

    return build


def with_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[], bytes]:
    """Builder of the small space's file with a changed manifest."""

    def spoil(model: ModelProto) -> None:
        entry = manifest_of(model)
        manifest = json.loads(entry.value)
        change(manifest)
        entry.value = json.dumps(manifest)

    return spoilt(spoil)


def manifest_of(model: ModelProto) -> Any:
    return next(entry for entry in model.metadata_props if entry.key == MANIFEST_KEY)


def node(model: ModelProto, name: str) -> NodeProto:
    return next(each for each in model.graph.node if each.name == name)


def weight(model: ModelProto, name: str) -> TensorProto:
    return next(each for each in model.graph.initializer if each.name == name)


def shape_only(name: str, dims: list[int]) -> TensorProto:
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL, dims=dims
    )
    tensor.external_data.add(key="location", value=WEIGHTLESS)
    return tensor


def add_nodes(model: ModelProto, *nodes: NodeProto) -> None:
    """Append nodes whose result nobody reads."""
    model.graph.node.extend(nodes)


def add_integers(model: ModelProto, name: str, values: list[int]) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))


def make(operator: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs, [output], f"hostile_{output}", **attributes)
