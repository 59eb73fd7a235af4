from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from latency_service.spaces.slicing import SearchSpace
from latency_service.training import rivals
from latency_service.training.export import export
from latency_service.training.features import build_encoding
from latency_service.training.lpnet import fit_lpnets
from latency_service.training.mlp import fit_mlps
from tests.unit.training.networks import lattice_of, mixed_space, residual_space, sampled, simulated_ms

SPACES = {"residual": residual_space(), "mixed": mixed_space(), "filled": residual_space((64, 128, 192), 1)}
KINDS = ["lpnet", "lpnet-mlp", "flops-line", "kernel-ridge", "gaussian-process"]
#: Of the interval, in log latency.
HALF_WIDTH = 0.05


def fit(kind: str, space: SearchSpace, step: int) -> Any:
    widths = sampled(space, 40, seed=0, step=step)
    latency, full = simulated_ms(space, widths), np.array(space.full_widths, dtype=float)
    floor = np.full(len(full), 2.0)
    encoding = build_encoding(space, lattice_of(space, step), widths)
    match kind:
        case "lpnet":
            return fit_lpnets(encoding, widths, latency, np.ones((1, 40)), members=3, seed=0)[0]
        case "lpnet-mlp":
            return fit_mlps(full, widths, latency, np.ones((1, 40)), seed=0)[0]
        case "flops-line":
            return rivals.fit_flops_line(encoding, widths, latency, np.ones(40))
        case "kernel-ridge":
            return rivals.fit_kernel_ridge(full, floor, widths, latency, np.ones(40))
    return rivals.fit_gaussian_process(full, floor, widths, latency, np.ones(40))


@pytest.fixture(scope="module", params=[(kind, name) for name in SPACES for kind in KINDS], ids=str)
def served(request: pytest.FixtureRequest) -> tuple[Any, SearchSpace, onnxruntime.InferenceSession]:
    kind, name = request.param
    space = SPACES[name]
    model = fit(kind, space, 32 if name == "filled" else 4)
    data = export(model, groups=len(space.groups), half_width=HALF_WIDTH)
    return model, space, onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, widths: np.ndarray) -> dict[str, np.ndarray]:
    names = [entry.name for entry in session.get_outputs()]
    return dict(zip(names, session.run(names, {"widths": widths.astype(np.float32)}), strict=True))


def in_range(space: SearchSpace, count: int) -> np.ndarray:
    """Widths [count, G], on the lattice and between, exact in single precision."""
    whole = sampled(space, count, seed=3)
    parts = np.random.default_rng(0).integers(0, 16, whole.shape) / 16
    return np.where(np.arange(count)[:, None] % 2, whole, np.maximum(whole - parts, 4))


def test_value_and_gradient_are_the_models_own(served: Any) -> None:
    model, space, session = served
    widths = in_range(space, 30)
    at = torch.as_tensor(widths, dtype=torch.float64).requires_grad_()
    latency = model.latency(at)
    (gradient,) = torch.autograd.grad(latency.sum(), at)
    got = run(session, widths)
    np.testing.assert_allclose(got["latency_ms"], latency.detach(), rtol=1e-5)
    np.testing.assert_allclose(got["gradient"], gradient, rtol=2e-4, atol=1e-5 * float(gradient.abs().max()))


def test_the_gradient_is_the_finite_difference(served: Any) -> None:
    model, space, session = served
    widths = in_range(space, 6)
    gradient = run(session, widths)["gradient"]
    step = 1e-4
    for g in range(len(space.groups)):
        moved = [torch.as_tensor(widths + sign * step * np.eye(len(space.groups))[g]) for sign in (1, -1)]
        with torch.no_grad():
            difference = (model.latency(moved[0]) - model.latency(moved[1])) / (2 * step)
        np.testing.assert_allclose(gradient[:, g], difference, rtol=1e-3, atol=1e-4 * np.abs(gradient).max())


def test_the_interval_brackets_and_shapes_follow_the_contract(served: Any) -> None:
    _, space, session = served
    for count in (1, 7):
        got = run(session, in_range(space, count))
        assert {name: value.shape for name, value in got.items()} == {
            "latency_ms": (count,), "gradient": (count, len(space.groups)), "lower_ms": (count,), "upper_ms": (count,),
        }  # fmt: skip
        assert all(value.dtype == np.float32 for value in got.values())
        np.testing.assert_allclose(got["lower_ms"], got["latency_ms"] * np.exp(-HALF_WIDTH), rtol=1e-5)
        np.testing.assert_allclose(got["upper_ms"], got["latency_ms"] * np.exp(HALF_WIDTH), rtol=1e-5)


def test_an_optimiser_that_strays_meets_finite_numbers(served: Any) -> None:
    _, space, session = served
    full = np.array(space.full_widths, dtype=float)
    got = run(session, np.stack([0 * full, 0 * full - 3, 0.01 + 0 * full, 1.5 * full]))
    assert all(np.isfinite(value).all() for value in got.values())
    assert (got["latency_ms"] > 0).all()


def test_the_file_is_small_and_old_runtimes_read_it() -> None:
    space = SPACES["residual"]
    data = export(fit("lpnet", space, 4), groups=len(space.groups), half_width=HALF_WIDTH)
    model = onnx.load_model_from_string(data)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}
    assert len(data) < 500_000
    assert len(model.graph.node) < 70


def test_trees_cannot_be_served() -> None:
    with pytest.raises(TypeError, match="no gradient"):
        export(rivals.Boosting(trees=None), groups=3, half_width=HALF_WIDTH)
