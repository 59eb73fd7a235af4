"""Manifests that do not fit their graph, or that are monstrous."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from onnx import ModelProto

from tests.support.hostile_models.spoiling import (
    add_nodes,
    make,
    manifest_of,
    shape_only,
    spoilt,
    with_manifest,
)

Change = Callable[[dict[str, Any]], object]


def missing(model: ModelProto) -> None:
    del model.metadata_props[:]


def text(value: str) -> Callable[[], bytes]:
    """Another text in place of the manifest."""

    def spoil(model: ModelProto) -> None:
        manifest_of(model).value = value

    return spoilt(spoil)


def groups_times_convolutions(model: ModelProto) -> None:
    """50,000 groups and 4,000 convolutions in 3.7 MB."""
    model.graph.initializer.append(shape_only("k", [3, 3, 1, 1]))
    for index in range(4000):
        source = "x" if index == 0 else f"k{index - 1}"
        add_nodes(model, make("Conv", [source, "k"], f"k{index}"))
    entry = manifest_of(model)
    manifest = json.loads(entry.value)
    manifest["groups"] += [
        {"name": f"g{index}", "width": 1, "minimum": 1, "members": []} for index in range(50_000)
    ]
    entry.value = json.dumps(manifest)


def thousands(model: ModelProto) -> None:
    """4,000 groups, which a manifest may have, and 4,000 convolutions, which a graph may have."""
    model.graph.initializer.append(shape_only("k", [3, 3, 1, 1]))
    for index in range(4000):
        add_nodes(model, make("Conv", ["x" if index == 0 else f"k{index - 1}", "k"], f"k{index}"))
    entry = manifest_of(model)
    manifest = json.loads(entry.value)
    manifest["groups"] += [
        {"name": f"g{index}", "width": 1, "minimum": 1, "members": []} for index in range(3900)
    ]
    entry.value = json.dumps(manifest)


def group(**values: Any) -> Change:
    return lambda manifest: manifest["groups"][0].update(values)


def slice_(**values: Any) -> Change:
    return lambda manifest: manifest["slices"][0].update(values)


def value(position: int, /, **values: Any) -> Change:
    return lambda manifest: manifest["values"][position].update(values)


def slice_twice(manifest: dict[str, Any]) -> None:
    manifest["slices"].append(manifest["slices"][0])


def group_twice(manifest: dict[str, Any]) -> None:
    manifest["groups"].append(manifest["groups"][0])


def many_positions(manifest: dict[str, Any]) -> None:
    manifest["values"] += [
        {"initializer": "shape", "index": 1, "segments": [{"group": -1, "count": 1 << 22}]}
        for _ in range(100)
    ]


def wide_groups(manifest: dict[str, Any]) -> None:
    manifest["groups"] += [
        {"name": f"w{index}", "width": 2**31 - 1, "minimum": 1, "members": []}
        for index in range(100)
    ]


KINDS = {
    "no manifest": spoilt(missing),
    "manifest that is no JSON": text("{"),
    "manifest that is a list": text("[]"),
    "manifest 100,000 levels deep": text("[" * 100_000),
    "manifest of 3 MB": text(json.dumps({"name": "x" * 3_000_000})),
    "manifest with half a character": text('{"name": "\\ud800", "groups": [], "slices": []}'),
    "50,000 groups x 4,000 convs": spoilt(groups_times_convolutions),
    "4,000 groups x 4,000 convs": spoilt(thousands),
    "name of 100,000 characters": with_manifest(lambda m: m.update(name="x" * 100_000)),
    "format of the future": with_manifest(lambda m: m.update(format=2)),
    "group of no width": with_manifest(group(width=0)),
    "group of negative width": with_manifest(group(width=-6)),
    "group of width 10^400": with_manifest(group(width=10**400)),
    "group of infinite width": with_manifest(group(width=float("inf"))),
    "group that is too wide": with_manifest(group(width=99)),
    "minimum above the width": with_manifest(group(minimum=7)),
    "group twice": with_manifest(group_twice),
    "groups of 2^31 channels": with_manifest(wide_groups),
    "slice of a weight that is not there": with_manifest(slice_(initializer="nobody")),
    "slice of an axis that is not there": with_manifest(slice_(axis=9)),
    "slice of a negative axis": with_manifest(slice_(axis=-1)),
    "slice twice": with_manifest(slice_twice),
    "slice of a group that is not there": with_manifest(
        slice_(segments=[{"group": 7, "count": 6}])
    ),
    "slice without segments": with_manifest(slice_(segments=[])),
    "slice of other positions": with_manifest(slice_(segments=[{"group": 0, "count": 5}])),
    "slice that steps out": with_manifest(slice_(segments=[{"group": 0, "count": 6, "step": 9}])),
    "value of a node that is not there": with_manifest(value(0, node="nobody")),
    "value of a list as a number": with_manifest(value(0, attribute="pads")),
    "value beyond the constant": with_manifest(value(1, index=10**9)),
    "value of a weight": with_manifest(value(1, initializer="fc")),
    "value divided by 0": with_manifest(value(0, divisor=0)),
    "value divided away": with_manifest(value(0, divisor=100)),
    "400 million positions": with_manifest(many_positions),
}
