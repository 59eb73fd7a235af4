"""Targets in pieces: what has an entry for each sample, and what has not."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from pruning_client.data.batch import Batch, pick_pair
from pruning_client.errors import DataError


class Both(NamedTuple):
    box: torch.Tensor
    label: torch.Tensor


class Sample(NamedTuple):
    index: int
    image: torch.Tensor
    label: int


def batch(target: Any, count: int = 16) -> Batch:
    return Batch((torch.arange(count).float(),), target)


def test_pieces_are_of_equal_size() -> None:
    labels = torch.arange(16)
    assert [len(part) for part in batch(labels).parts(15)] == [8, 8]
    assert [len(part) for part in batch(labels).parts(5)] == [4, 4, 4, 4]
    assert torch.cat([part.target for part in batch(labels).parts(7)]).equal(labels)


def test_as_many_boxes_as_images_stay_those_of_their_image() -> None:
    boxes = [torch.full((16, 5), float(number)) for number in range(16)]
    parts = batch(boxes).parts(4)
    assert [len(part.target) for part in parts] == [4] * 4
    assert [float(one[0, 0]) for part in parts for one in part.target] == list(range(16))


def test_several_kinds_of_targets_are_cut_alike() -> None:
    kinds = [torch.arange(2), torch.arange(2) + 10]
    first = batch(kinds, count=2).part(slice(0, 1)).target
    assert [x.tolist() for x in first] == [[0], [10]]
    named = batch(Both(torch.zeros(16, 4), torch.arange(16))).part(slice(4, 6)).target
    assert isinstance(named, Both)
    assert named.label.tolist() == [4, 5]


@pytest.mark.parametrize(
    "target", [torch.zeros(40, 6), {"boxes": torch.zeros(3, 4), "label": torch.zeros(16)}, object()]
)
def test_what_has_no_entry_for_each_sample_is_not_cut(target: Any) -> None:
    whole = batch(target)
    assert whole.part(slice(0, 16)) is whole
    assert len(whole.first(2)) == 2
    with pytest.raises(DataError, match="cannot be cut into pieces"):
        whole.parts(4)


def test_named_fields_are_read_by_their_names() -> None:
    image, label = pick_pair(Sample(7, torch.zeros(1, 2, 2), 3))
    assert image.shape == (1, 2, 2)
    assert label == 3
