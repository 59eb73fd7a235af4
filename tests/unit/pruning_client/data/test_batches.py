from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from pruning_client.data.batches import first_inputs
from pruning_client.data.sources import as_batches
from tests.support.tiny_networks import digits


def test_normalisation() -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8), dtype=np.uint8)
    batch = next(as_batches((images, np.arange(8)), mean=(0.5,), std=(0.25,)).ordered())
    (x,) = batch.inputs
    torch.testing.assert_close(x, (torch.from_numpy(images).float() / 255 - 0.5) / 0.25)


def test_shuffled_by_seed_alone() -> None:
    data = as_batches(digits(), batch_size=64)
    first, again, other = ([batch.target for batch in data.shuffled(seed)] for seed in (1, 1, 2))
    assert len(first) == len(data) == 1797 // 64
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_split_is_stratified_and_disjoint() -> None:
    train, held_out = as_batches(digits()).split(0.2, seed=3)
    parts = [torch.cat([batch.target for batch in part.ordered()]) for part in (train, held_out)]
    assert len(parts[0]) + len(parts[1]) == 1797
    for label in range(10):
        share = int((parts[1] == label).sum()) / int(sum((p == label).sum() for p in parts))
        assert share == pytest.approx(0.2, abs=0.01)


def test_loader_splits_and_keeps_its_batches() -> None:
    images, labels = digits()
    loader = DataLoader(TensorDataset(images.float(), labels), batch_size=50, shuffle=True)
    train, held_out = as_batches(loader).split(0.2, seed=0)
    assert sum(len(batch) for batch in held_out.ordered()) == round(0.2 * 1797)
    assert next(len(batch) for batch in train.shuffled(0)) == 50
    same = [torch.cat([batch.target for batch in train.shuffled(5)]) for _ in range(2)]
    assert torch.equal(*same)


def test_first_inputs() -> None:
    (images,) = first_inputs(as_batches(digits()))
    assert images.shape == (2, 1, 8, 8)
