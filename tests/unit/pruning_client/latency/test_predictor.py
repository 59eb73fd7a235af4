"""The bridge: one autograd function, two sources, the same value and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latency_service.core.client import Client
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from tests.support import analytic
from tests.support.predictor_service import PredictorService


@pytest.fixture
def served(traced: Traced, service: PredictorService, client: Client) -> Predictor:
    service.serve_predictor(traced.space)
    return Predictor.served(client, client.predictors()[0])


@pytest.fixture
def local(traced: Traced, service: PredictorService, client: Client) -> Predictor:
    service.serve_predictor(traced.space)
    return Predictor.local(client, client.predictors()[0])


def value_and_gradient(
    predictor: Predictor, widths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    x = widths.clone().requires_grad_()
    latency = predictor(x)
    latency.sum().backward()
    assert x.grad is not None
    return latency.detach(), x.grad


WIDTHS = [[16.0, 16.0], [4.0, 12.0], [7.5, 9.25]]


def test_local_and_served_agree(local: Predictor, served: Predictor) -> None:
    a, b = (value_and_gradient(p, torch.tensor(WIDTHS)) for p in (local, served))
    torch.testing.assert_close(a[0], b[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a[1], b[1], atol=1e-5, rtol=1e-5)


def test_value_is_the_truth(local: Predictor, traced: Traced) -> None:
    latency, _ = value_and_gradient(local, torch.tensor(WIDTHS))
    truth = [analytic.latency_ms(traced.space, w) for w in WIDTHS]
    np.testing.assert_allclose(latency.numpy(), truth, rtol=1e-5)


@pytest.mark.parametrize("which", ["local", "served"])
def test_gradient_equals_finite_differences(which: str, request: pytest.FixtureRequest) -> None:
    predictor: Predictor = request.getfixturevalue(which)
    widths = torch.tensor([[9.0, 11.0]])
    _, gradient = value_and_gradient(predictor, widths)
    for group in range(2):
        ahead = widths.clone()
        behind = widths.clone()
        ahead[0, group] += 0.5
        behind[0, group] -= 0.5  # exact for a quadratic form
        difference = (predictor(ahead) - predictor(behind))[0]
        assert float(gradient[0, group]) == pytest.approx(float(difference), rel=1e-3)


def test_chain_rule_through_gates(local: Predictor) -> None:
    gates = [torch.ones(16, requires_grad=True) for _ in range(2)]
    (3 * local(torch.stack([gate.sum() for gate in gates]))).backward()
    _, gradient = value_and_gradient(local, torch.tensor([[16.0, 16.0]]))
    for gate, slope in zip(gates, gradient[0], strict=True):
        torch.testing.assert_close(
            gate.grad, torch.full((16,), 3 * float(slope)), rtol=1e-5, atol=1e-7
        )


def test_one_vector_gives_one_number(local: Predictor) -> None:
    assert local(torch.tensor(WIDTHS[0])).shape == ()
    assert local(torch.tensor(WIDTHS)).shape == (3,)


def test_keeps_the_type_of_the_widths(local: Predictor) -> None:
    assert local(torch.tensor(WIDTHS, dtype=torch.float64)).dtype == torch.float64


def test_wrong_length_is_refused(local: Predictor) -> None:
    with pytest.raises(ValueError, match=r"give \[2\] or \[B, 2\]"):
        local(torch.ones(3))


def test_more_than_one_request_holds_are_asked_for_in_several(
    served: Predictor, local: Predictor, service: PredictorService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_service.core.client.client.MAX_BATCH", 2)
    asked = [[16, 16], [4, 12], [8, 8], [12, 4], [6, 10]]
    before = len(service.seen)
    np.testing.assert_array_equal(served.latency_ms(asked), local.latency_ms(asked))
    assert len(service.seen) - before == 3
