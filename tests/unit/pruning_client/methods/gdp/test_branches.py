from __future__ import annotations

import pytest

from pruning_client.methods.gdp.branches import residual_branches
from tests.support.families import traced_family


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (
            "residual",
            [
                ["layers.0.0.conv1"],
                ["layers.0.1.conv1"],
                ["layers.1.0.conv1"],
                ["layers.1.1.conv1"],
            ],
        ),
        ("mobilenet-v3", [["features.2.body.0", "features.2.body.6.reduce"]]),
        ("vgg", []),
        ("densenet", []),
    ],
)
def test_each_branch_has_the_groups_inside_it(family: str, expected: list[list[str]]) -> None:
    _, traced = traced_family(family)
    names = [group.name for group in traced.space.groups]
    assert [[names[g] for g in branch] for branch in residual_branches(traced)] == expected
