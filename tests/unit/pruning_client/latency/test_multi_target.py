"""Several targets as one: the worst in proportion to its budget, on widths that suit all."""

from __future__ import annotations

import pytest
import torch

from pruning_client.errors import UsageError
from pruning_client.latency.multi_target import common_lattice, worst_of
from tests.support import goals

OTHER = goals.linear(0.2, [0.002, 0.02, 0.002], [list(range(4, 65, 4))] * 3)


def test_the_worst_of_two_targets() -> None:
    fine = goals.fine()
    worst = worst_of([fine, OTHER], [0.7, 1.4])
    assert worst.lattice == OTHER.lattice
    for widths in ([64, 4, 64], [4, 64, 4]):
        expected = max(fine.one_ms(widths), OTHER.one_ms(widths) / 2)
        assert worst.one_ms(widths) == pytest.approx(expected, rel=1e-5)
    asked = torch.tensor([[4.0, 64.0, 4.0]], requires_grad=True)
    worst(asked).sum().backward()
    assert asked.grad is not None
    torch.testing.assert_close(asked.grad, torch.tensor([[0.001, 0.01, 0.001]]))


def test_the_ends_are_those_of_the_common_lattice() -> None:
    sidecar = worst_of([goals.fine(), OTHER], [0.7, 1.4]).sidecar
    assert sidecar.dense_ms == pytest.approx(max(0.1 + 64 * 0.018, (0.2 + 64 * 0.024) / 2))
    assert sidecar.lowest_ms == pytest.approx(max(0.1 + 4 * 0.018, (0.2 + 4 * 0.024) / 2))


def test_one_target_keeps_its_predictor() -> None:
    assert worst_of([OTHER], [0.7]) is OTHER


def test_lattices_with_nothing_in_common_are_refused() -> None:
    odd = goals.linear(0.1, [0.004] * 3, [[5, 63]] * 3)
    with pytest.raises(UsageError, match="'group0' has no width"):
        common_lattice([OTHER, odd])
