"""Training from plain vectors: what is served, and that its gradients are its own slopes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from latency_service.training.artifact.export import export
from latency_service.training.dataset import VectorSet
from latency_service.training.models.block_features import build_block_features, whole
from latency_service.training.models.kernels import fit_kernel_line
from latency_service.training.models.lpnet import fit_lpnets
from latency_service.training.models.mixtures import Blend, Bottleneck, Constant
from latency_service.training.pipeline import TrainingError, train
from tests.support.block_vectors import BLOCKS, vectors


def latency_of(x: np.ndarray) -> np.ndarray:
    """A device on which each block costs channels * resolution * something of its kernel [N],
    ms.
    """
    per_kernel = np.interp(x[:, :2], [3, 5, 7], [1.0, 1.9, 2.4])
    blocks = (per_kernel * x[:, 2:4] * np.array([1.0, 1.6])).sum(1)
    return np.asarray(0.2 + x[:, 4] * (blocks + 30) / 2000)


def vector_set(count: int = 40) -> VectorSet:
    x = vectors(count, seed=3)
    return VectorSet(
        space_id="blocks",
        names=["k0", "k1", "c0", "c1", "r"],
        layout=BLOCKS,
        fingerprint="f" * 64,
        measurement_ids=[str(i) for i in range(count)],
        widths=x,
        latency_ms=latency_of(x),
        half_width=np.full(count, np.inf),
        seed=0,
    )


def served(artifact: bytes, x: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"widths": x.astype(np.float32)}), strict=True))


def models() -> list[object]:
    data = vector_set()
    weights = np.ones((1, len(data.latency_ms)))
    features = build_block_features(BLOCKS, data.widths)
    (net,) = fit_lpnets(features, data.widths, data.latency_ms, weights, members=2, seed=0)
    plain = build_block_features(whole(5), data.widths)
    kernels = [
        fit_kernel_line(plain, data.widths, data.latency_ms, weights[0], evidence=evidence, seed=0)
        for evidence in (False, True)
    ]
    blend = Blend(models=[net, kernels[0]], shares=np.array([0.7, 0.4]), level=0.1)
    bottlenecks = [
        Bottleneck(models=[net, other], log_factors=np.array(factors), sharpness=sharpness)
        # the second one's powers do not fit into single precision
        for other, factors, sharpness in (
            (kernels[0], [0.1, -0.1], 4.0),
            (Constant(), [7.0, 6.9], 16.0),
        )
    ]
    return [
        net,
        *kernels,
        blend,
        *bottlenecks,
        Blend(models=[blend, *bottlenecks], shares=np.full(3, 1 / 3), level=0.0),
    ]


@pytest.fixture(scope="module")
def fitted() -> list[object]:
    return models()


KINDS = (
    "lpnet",
    "kernel-ridge",
    "gaussian-process",
    "blend",
    "bottleneck",
    "bottleneck-constant",
    "mean",
)


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
def test_the_exported_file_says_what_the_model_says_and_its_slope(
    fitted: list[object], kind: int
) -> None:
    model = fitted[kind]
    artifact = export(model, groups=5, half_width=0.1)
    x = vectors(30, seed=9) + np.array([0.3, 0.3, 0.5, 0.5, 0.25])  # between the choices: no kinks
    x[:5, 3] = 0.0
    found = served(artifact, x)
    np.testing.assert_allclose(found["latency_ms"], np.exp(model.log_latency(x)), rtol=2e-4)  # type: ignore[attr-defined]
    step = 1e-4
    for column in range(5):
        rows = x[:, column] > 0
        around = [x + sign * step * np.eye(5)[column] for sign in (-1, 1)]
        low, high = (np.exp(model.log_latency(at)) for at in around)  # type: ignore[attr-defined]
        slopes = (high - low) / (2 * step)
        scale = np.abs(found["gradient"]).max()
        np.testing.assert_allclose(
            found["gradient"][rows, column], slopes[rows], rtol=5e-3, atol=2e-3 * scale
        )


def test_a_model_that_is_used_again_is_computed_once(fitted: list[object]) -> None:
    def hidden(kind: str) -> int:
        file = onnx.load_from_string(export(fitted[KINDS.index(kind)], groups=5, half_width=0.1))
        return sum(node.op_type == "Tanh" for node in file.graph.node)

    assert hidden("mean") == hidden("lpnet") > 0


def test_parts_that_add_up_are_learned_from_forty_vectors() -> None:
    trained = train(vector_set())
    x = vectors(300, seed=5)
    found = served(trained.artifact, x)["latency_ms"]
    off = 100 * np.abs(found / latency_of(x) - 1).mean()
    assert trained.sidecar.model == "lpnet"
    assert off < 1.0
    assert [entry.name for entry in trained.sidecar.rivals] == [
        "lpnet",
        "lpnet-mlp",
        "kernel-ridge",
        "gaussian-process",
        "gradient-boosting",
    ]
    curve = trained.sidecar.learning_curve
    assert [point.measurements for point in curve] == [10, 20, 30, 40]
    assert curve[-1].mape == trained.sidecar.mape < curve[0].mape


def test_vectors_that_nobody_explains_get_the_best_kernel_or_plain_network() -> None:
    data = replace(vector_set(60), layout=None)
    trained = train(data)
    assert "lpnet" not in {entry.name for entry in trained.sidecar.rivals}
    best = min(
        (entry for entry in trained.sidecar.rivals if entry.differentiable),
        key=lambda entry: entry.mape,
    )
    assert trained.sidecar.model == best.name
    found = served(trained.artifact, data.widths)
    assert 100 * np.abs(found["latency_ms"] / data.latency_ms - 1).mean() < trained.sidecar.mape


def test_a_value_that_is_no_number_is_named() -> None:
    data = vector_set()
    widths = data.widths.copy()
    widths[7, 2] = np.nan
    with pytest.raises(TrainingError, match="column 'c0' of measurement 7"):
        train(replace(data, widths=widths))
