from __future__ import annotations

import numpy as np
import torch

from pruning_client.methods.gdp.polar_gates import _scores, polarised


def test_an_untouched_gate_is_open_for_every_epsilon() -> None:
    for epsilon in (0.1, 1e-2, 1e-4):
        assert float(polarised(torch.ones(1), epsilon)) == 1


def test_gates_are_at_both_ends_once_epsilon_is_small() -> None:
    theta = torch.linspace(0.05, 1, 20)
    soft = polarised(theta, 0.1)
    hard = polarised(torch.cat([torch.zeros(3), theta]), 1e-5)
    assert 0.01 < float(soft.min()) < 0.05
    assert hard[:3].tolist() == [0, 0, 0]
    assert float(hard[3:].min()) > 0.99


def test_channels_are_ordered_by_gate_and_open_ones_by_worth() -> None:
    scores = _scores(
        gates=np.array([0.9, 1.0, 0.2, 0.0, 0.1]),
        worth=np.array([5.0, 2.0, 9.0, 1.0, 1.0]),
        margin=0.5,
    )
    assert np.argsort(-scores).tolist() == [0, 1, 2, 4, 3]
    np.testing.assert_allclose(np.sort(scores), [1, 1, 2, 5, 9], atol=1e-9)
