"""Probe spaces are real search spaces that ONNX Runtime runs at every width."""

import numpy as np
import onnxruntime as ort
import pytest

from latency_service.lattices.probes import FULL, PROBES, kinds_of, kinds_of_groups, probe_space
from latency_service.spaces.layers import total_macs
from latency_service.spaces.slicing import materialise
from latency_service.spaces.weightless import draw_weights
from tests.support.simulated import Network


@pytest.mark.parametrize("kind", PROBES)
def test_a_probe_runs_at_its_narrowest_and_widest_width(kind):
    space = probe_space(kind)
    for widths in ([1], [FULL]):
        model = draw_weights(materialise(space, widths))
        session = ort.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        shape = [2 if isinstance(d, str) else d for d in session.get_inputs()[0].shape]
        (output,) = session.run(None, {"input": np.ones(shape, np.float32)})
        assert np.isfinite(output).all()
        assert output.shape[0] == 2


@pytest.mark.parametrize("kind", PROBES)
def test_a_probe_shows_its_own_kind_and_the_depthwise_one_the_pointwise_too(kind):
    space = probe_space(kind)
    expected = {"conv1x1", "depthwise"} if kind == "depthwise" else {kind}
    assert set(kinds_of_groups(space)[0]) == set(kinds_of(space)) == expected


def test_layers_of_a_real_network_are_mapped_to_the_probe_that_behaves_like_them():
    network = Network()
    group = [network.group(8) for _ in range(4)]
    first = network.conv(network.start, group[0], kernel=5)
    down = network.conv(first, group[1], stride=2)
    short = network.conv(first, group[2], kernel=1, stride=2)
    last = network.conv(network.concat(network.depthwise(down), short), group[3], kernel=1)
    assert kinds_of_groups(network.space(last)) == [
        ["conv3x3"],
        ["strided", "depthwise"],
        ["conv1x1"],
        ["conv1x1"],
    ]


def test_the_cost_of_every_probe_is_in_its_group():
    for kind in PROBES:
        space = probe_space(kind)
        narrow = total_macs(space, [1])
        wide = total_macs(space, [FULL])
        assert wide == pytest.approx(FULL * narrow)


def test_an_unknown_kind_names_those_there_are():
    with pytest.raises(ValueError, match="conv1x1"):
        probe_space("attention")
