"""How the processes of one start find each other in a store that keeps what lost processes left in
it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.distributed import HashStore

from pruning_client.data.batch import Batch
from pruning_client.execution import distributed


def started(store: distributed._Store, order: Sequence[int], late_seconds: float = 0.1) -> set[str]:
    """What the processes of one start agree on; they come up one after the other."""
    with ThreadPoolExecutor(len(order)) as pool:
        running = []
        for rank in order:
            running.append(pool.submit(distributed._agreed, store, rank, len(order)))
            time.sleep(late_seconds)
        return {future.result(timeout=20) for future in running}


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (2, 0, 1)])
def test_each_start_agrees_on_a_name_of_its_own(order: Sequence[int]) -> None:
    store = HashStore()
    names = [started(store, order) for _ in range(3)]
    assert [len(found) for found in names] == [1, 1, 1]
    assert len(set.union(*names)) == 3


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_process_lost_while_it_asked_is_not_waited_for(order: Sequence[int]) -> None:
    store = HashStore()
    store.set("question/1", "lost")
    assert len(started(store, order)) == 1


def test_gradients_are_averaged_in_one_message_for_each_dtype(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parameters = [
        nn.Parameter(torch.zeros(2, 3)),
        nn.Parameter(torch.zeros(4)),
        nn.Parameter(torch.zeros(5, dtype=torch.float64)),
        nn.Parameter(torch.zeros(1)),
    ]
    for number, parameter in enumerate(parameters[:3], 1):
        parameter.grad = torch.full_like(parameter, float(number))
    messages = list[int]()

    def all_reduce(tensor: Tensor) -> None:
        messages.append(tensor.numel())
        tensor *= 3  # the other process has twice as large ones

    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    distributed.average_gradients(parameters)
    assert messages == [10, 5]
    for number, parameter in enumerate(parameters[:3], 1):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, torch.full_like(parameter, 1.5 * number))
    assert parameters[3].grad is None


@pytest.mark.parametrize(("count", "weights"), [(5, [1.2, 0.8]), (4, [1, 1]), (1, [2, 0])])
def test_every_process_has_a_part_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, count: int, weights: list[float]
) -> None:
    """Also of a batch with fewer samples than processes: a mean over none would not be finite."""
    monkeypatch.setattr(distributed, "world", lambda: 2)
    samples = torch.arange(count, dtype=torch.float32)
    batch = Batch((samples,), samples)
    means = []
    for rank, weight in enumerate(weights):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        mine, found = distributed.share(count)
        assert found == pytest.approx(weight)
        own = batch.part(mine)
        assert len(own) == len(own.target) == len(samples[mine]) <= max(1, (count + 1) // 2)
        means.append(found * float(own.target.mean()))
    assert sum(means) / 2 == pytest.approx(float(samples.mean()))
