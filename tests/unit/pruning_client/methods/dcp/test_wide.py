"""DCPH: a wider network is pruned to the latency of the given one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from pruning_client.data.sources import as_batches
from pruning_client.errors import UsageError
from pruning_client.graph.space import Traced, make_space
from pruning_client.graph.surgery import slim
from pruning_client.graph.widening import widths_before
from pruning_client.methods.base import Context, Widening
from pruning_client.methods.dcp.method import DCP
from pruning_client.methods.dcp.wide import DCPH
from pruning_client.training.metrics import accuracy
from tests.support import analytic
from tests.support.tiny_networks import TinyNet, digits


def test_a_wider_network_ends_at_the_latency_of_the_given_one(
    trained: TinyNet, traced: Traced
) -> None:
    method = DCPH(epochs=2, draws=2)
    wide = method.widened(trained, traced, 0)
    data = as_batches(digits(), batch_size=64)
    # it starts with what the given network knows
    assert accuracy(wide, data) == pytest.approx(accuracy(trained, data), abs=0.1)
    again = make_space(wide, traced.example)
    predictor = analytic.predictor(again.space)
    given_ms = predictor.one_ms(widths_before(traced, again))
    assert given_ms == pytest.approx(analytic.latency_ms(traced.space, traced.space.full_widths))
    context = Context(
        model=copy.deepcopy(wide), traced=again, train=data, predictor=predictor, target_ms=given_ms
    )
    selection = method.run(context)
    small = slim(context.model, again, selection.keep)
    assert isinstance(small, TinyNet)
    assert 0.8 * given_ms < predictor.one_ms(selection.widths) <= given_ms
    # the groups share the latency in another way than before, or in the same: at most twice as wide
    assert all(width <= 32 for width in selection.widths)
    assert small(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_only_dcph_widens() -> None:
    assert isinstance(DCPH(), Widening)
    assert not isinstance(DCP(), Widening)


@pytest.mark.parametrize("factor", [1.0, 0.5, float("nan")])
def test_it_widens_by_more_than_one(factor: Any) -> None:
    with pytest.raises(UsageError, match="option factor of DCPH is"):
        DCPH(factor=factor)
