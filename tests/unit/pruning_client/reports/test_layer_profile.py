from __future__ import annotations

import numpy as np
import onnx
import pytest

from latency_service.core.quantisation import Quantiser
from latency_service.devices.schemas import RuntimeConfig
from latency_service.spaces.slicing import materialise
from pruning_client.graph.proof import weights_of
from pruning_client.graph.space import Traced
from pruning_client.reports.layer_profile import layer_microseconds, layer_shares
from tests.support.tiny_networks import tiny_net


@pytest.fixture
def file(traced: Traced) -> bytes:
    weights = weights_of(tiny_net(), traced.weights)
    return bytes(
        materialise(traced.space, traced.space.full_widths, weights=weights).SerializeToString()
    )


def test_every_layer_is_found(file: bytes) -> None:
    found = layer_microseconds(file, RuntimeConfig())
    assert {"conv.weight", "block.conv1.weight", "block.conv2.weight", "fc.weight"} <= found.keys()
    assert all(value >= 0 for value in found.values())


def test_layers_of_an_int8_file_have_the_same_names(file: bytes) -> None:
    images = [{"x": np.random.default_rng(0).random((4, 1, 8, 8), np.float32)}]
    quantised = Quantiser(onnx.load_model_from_string(file), images).quantised()
    found = layer_microseconds(quantised.SerializeToString(), RuntimeConfig())
    assert {"conv.weight", "block.conv1.weight", "block.conv2.weight", "fc.weight"} <= found.keys()


def test_shares_sum_to_the_latencies(file: bytes, traced: Traced) -> None:
    keep = [np.arange(4) for _ in traced.space.groups]
    weights = weights_of(tiny_net(), traced.weights)
    small = materialise(traced.space, [4, 4], keep=keep, weights=weights).SerializeToString()
    shares = layer_shares(file, 2.0, small, 0.5, RuntimeConfig(batch=3))
    assert sum(row.before_ms for row in shares) == pytest.approx(2.0)
    assert sum(row.after_ms for row in shares) == pytest.approx(0.5)
    assert len({row.name for row in shares}) == len(shares)
