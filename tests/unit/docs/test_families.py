"""The page of families shows what the conformance test's networks are found to be."""

from __future__ import annotations

import pytest

from tests.support.families import EXPECTED, FAMILIES, traced_family
from tests.support.family_table import BEGIN, END, PAGE, page, share_of, table


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
