"""One conformance test over all families: gated = removed from the graph = removed from the
module.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import ModelProto
from torch import nn

from latency_service.spaces.slicing import materialise
from pruning_client.graph import proof
from pruning_client.graph.space import trace
from pruning_client.graph.surgery import slim
from tests.support.families import EXPECTED, FAMILIES, traced_family


@pytest.mark.parametrize("name", FAMILIES)
def test_groups_and_reasons(name: str) -> None:
    _, traced = traced_family(name)
    groups, left = EXPECTED[name]
    assert {group.name: group.width for group in traced.space.groups} == groups
    assert traced.space.manifest.unprunable.keys() == left.keys()
    for layer, reason in left.items():
        assert reason in traced.space.manifest.unprunable[layer]


@pytest.mark.parametrize("name", FAMILIES)
def test_gated_equals_removed(name: str) -> None:
    model, traced = traced_family(name)
    keep = proof.random_keep(traced.space, seed=7)
    widths = [len(index) for index in keep]
    assert widths != traced.space.full_widths
    small = slim(model, traced, keep)
    exported = trace(small, traced.example)
    removed = materialise(traced.space, widths, keep=keep, weights=traced.weights)
    wanted = proof.run_onnx(removed, traced.example)
    with proof.gated(model, traced.gates, keep):
        _equal(proof.run_torch(model, traced.example), wanted)
    _equal(proof.run_torch(small, traced.example), wanted)
    _equal(proof.run_onnx(exported, traced.example), wanted)
    assert _shapes(exported, model) == _shapes(removed, model)
    assert Counter(node.op_type for node in exported.graph.node) == Counter(
        node.op_type for node in removed.graph.node
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_full_width_is_the_dense_network(name: str) -> None:
    model, traced = traced_family(name)
    dense = materialise(traced.space, traced.space.full_widths, weights=traced.weights)
    _equal(proof.run_onnx(dense, traced.example), proof.run_torch(model, traced.example))


def _equal(found: proof.Arrays, wanted: proof.Arrays) -> None:
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5, rtol=1e-5)


def _shapes(model: ModelProto, owner: nn.Module) -> dict[str, tuple[int, ...]]:
    names = owner.state_dict().keys()
    return {t.name: tuple(t.dims) for t in model.graph.initializer if t.name in names}
