from __future__ import annotations

from itertools import pairwise

import onnx
import pytest

from latency_service.agent.measuring.canaries import CANARIES, Canary, build
from latency_service.agent.measuring.sessions import open_network
from latency_service.agent.measuring.timing import Stopwatch
from latency_service.devices.schemas import RuntimeConfig


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name)
def test_every_agent_builds_the_same_bytes(canary: Canary) -> None:
    first, second = (build(canary).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name)
def test_a_canary_is_a_valid_model_with_its_weights(canary: Canary) -> None:
    model = build(canary)
    onnx.checker.check_model(model, full_check=True)
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_the_fastest_comes_first_and_they_lie_apart() -> None:
    watch = Stopwatch()
    runtime = RuntimeConfig()
    networks = [open_network(build(canary), runtime) for canary in CANARIES]
    readings = [[watch.visit(network, 5.0).latency_ms for network in networks] for _ in range(5)]
    floors = [min(column) for column in zip(*readings, strict=True)]
    assert len(floors) == len(CANARIES)
    assert all(1.5 * faster < slower for faster, slower in pairwise(floors))
