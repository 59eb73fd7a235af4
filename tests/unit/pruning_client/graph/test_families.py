"""One conformance test over all families: gated = removed from the graph = removed from the
module; and the page that shows what their networks are found to be.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import ModelProto
from torch import nn

from latency_service.spaces.inspection import inspect
from latency_service.spaces.slicing import materialise
from pruning_client.graph import comparison, proof
from pruning_client.graph.space import trace
from pruning_client.graph.surgery import slim
from tests.support.families import EXPECTED, FAMILIES, traced_family
from tests.support.family_table import BEGIN, END, PAGE, page, share_of, table


@pytest.mark.parametrize("name", FAMILIES)
def test_groups_and_reasons(name: str) -> None:
    _, traced = traced_family(name)
    groups, left = EXPECTED[name]
    assert {group.name: group.width for group in traced.space.groups} == groups
    assert traced.space.manifest.unprunable.keys() == left.keys()
    for layer, reason in left.items():
        assert reason in traced.space.manifest.unprunable[layer]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_service_takes_the_space(name: str) -> None:
    _, traced = traced_family(name)
    assert len(inspect(traced.measured.space.data)["groups"]) == len(EXPECTED[name][0])


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


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert text == page(text), "write it again: python -m tests.support.family_table"


def test_every_family_and_every_layer_left_alone_is_in_the_table() -> None:
    rows = {line.split("|")[1].strip(): line for line in table().splitlines()[2:]}
    assert rows.keys() == FAMILIES.keys()
    for name, (groups, left) in EXPECTED.items():
        assert f"| {len(groups)} | {sum(groups.values())} |" in rows[name]
        assert all(f"`{layer}`" in rows[name] for layer in left)


def test_filters_of_tied_layers_count_each() -> None:
    model, traced = traced_family("residual")
    share = share_of(model, traced)
    # all but the ten classes; residual sums tie the filters of several layers to the same channels
    assert share.total - share.prunable == 10
    assert share.prunable > sum(group.width for group in traced.space.groups)


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="around its table"):
        page(f"{BEGIN} but no end")
    assert page(f"{BEGIN}{END}tail").endswith(f"{END}tail")


def _equal(found: comparison.Arrays, wanted: comparison.Arrays) -> None:
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5, rtol=1e-5)


def _shapes(model: ModelProto, owner: nn.Module) -> dict[str, tuple[int, ...]]:
    names = owner.state_dict().keys()
    return {t.name: tuple(t.dims) for t in model.graph.initializer if t.name in names}
