"""What unit tests of both packages share: a fake service over a socket, its client, a space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from latency_service.core.client import Client
from pruning_client.graph.space import Traced, make_space
from tests.support.predictor_service import TOKEN, PredictorService
from tests.support.scripted_service import listening
from tests.support.tiny_networks import tiny_net


@pytest.fixture
def service() -> Iterator[PredictorService]:
    with listening(PredictorService()) as found:
        yield found


@pytest.fixture
def client(service: PredictorService, tmp_path: Path) -> Iterator[Client]:
    with Client(
        service.url, TOKEN, cache_dir=tmp_path / "cache", sleep=lambda _seconds: None
    ) as found:
        yield found


@pytest.fixture(scope="session")
def traced() -> Traced:
    return make_space(tiny_net(), torch.zeros(2, 1, 8, 8))
