from __future__ import annotations

import pytest

from pruning_client.data.sources import as_batches
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.training.config import Training
from pruning_client.training.trainer import finetune
from tests.support import analytic
from tests.support.tiny_networks import TinyNet, digits, tiny_net
from tests.support.torch_fixtures import one_thread, operators_read_once

__all__ = ["one_thread", "operators_read_once"]


@pytest.fixture(scope="session")
def predictor(traced: Traced) -> Predictor:
    return analytic.predictor(traced.space)


@pytest.fixture(scope="session")
def trained() -> TinyNet:
    """Of digits, in eval mode; tests copy it before they change it."""
    model = tiny_net()
    finetune(model, as_batches(digits(), batch_size=64), Training(epochs=3, lr=0.05))
    return model
