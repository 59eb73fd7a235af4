"""Probe spaces are real search spaces that ONNX Runtime runs at every width."""

import numpy as np
import onnxruntime as ort
import pytest

from latency_service.lattices.probes import PROBES, kinds_of, kinds_of_groups, probe_space, probe_widths
from latency_service.spaces.slicing import draw_weights, materialise


@pytest.mark.parametrize("kind", PROBES)
def test_a_probe_runs_at_its_narrowest_and_widest_swept_width(kind):
    space = probe_space(kind)
    for widths in (probe_widths(kind)[0], probe_widths(kind)[-1]):
        model = draw_weights(materialise(space, widths))
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        shape = [2 if isinstance(d, str) else d for d in session.get_inputs()[0].shape]
        (output,) = session.run(None, {"input": np.ones(shape, np.float32)})
        assert np.isfinite(output).all()
        assert output.shape[0] == 2


def test_the_depthwise_probe_needs_its_own_sweep_and_the_pointwise_one():
    assert kinds_of(probe_space("conv3x3")) == ["conv3x3"]
    assert set(kinds_of_groups(probe_space("depthwise"))[0]) == {"conv1x1", "depthwise"}


def test_an_unknown_kind_names_those_there_are():
    with pytest.raises(ValueError, match="conv1x1"):
        probe_space("attention")
