from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from torch.onnx._internal.exporter import _registration

from pruning_client.data.batches import as_batches
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.training.config import Training
from pruning_client.training.trainer import finetune
from tests.support import analytic
from tests.support.tiny_networks import TinyNet, digits, tiny_net


@pytest.fixture(autouse=True, scope="session")
def operators_read_once() -> Iterator[None]:
    """Half of a small network's export is torch reading its own table of operators anew: tests read
    it once.
    """
    registry = _registration.ONNXRegistry
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib))
        )
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and waiting threads cost a shared machine a lot."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def predictor(traced: Traced) -> Predictor:
    return analytic.predictor(traced.space)


@pytest.fixture(scope="session")
def trained() -> TinyNet:
    """Of digits, in eval mode; tests copy it before they change it."""
    model = tiny_net()
    finetune(model, as_batches(digits(), batch_size=64), Training(epochs=3, lr=0.05))
    return model
