from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from latency_service.spaces.layers import layers
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.artifact.export import export
from latency_service.training.artifact.lookup_tables import Grid, Tables
from latency_service.training.models import baselines
from latency_service.training.models.baselines import FlopsLine
from latency_service.training.models.layer_features import build_layer_features
from latency_service.training.models.lpnet import LPNet, fit_lpnets
from latency_service.training.models.mixtures import Blend, Bottleneck
from latency_service.training.models.mlp import Mlp, fit_mlps
from tests.support.simulated import lattice_of, mixed_space, residual_space, sampled, simulated_ms

Floats = np.ndarray
SPACES = {"residual": residual_space(), "mixed": mixed_space()}
WHOLE = ["lpnet-mlp", "kernel-ridge", "gaussian-process"]
OTHERS = ["lpnet", "flops-line", "mixture"]
#: Of the interval, in log latency.
HALF_WIDTH = 0.05


def fit(kind: str, space: SearchSpace) -> Any:
    widths = sampled(space, 40, seed=0)
    latency = simulated_ms(space, widths)
    full = np.array(space.full_widths, dtype=float)
    ones = np.ones((1, 40))
    floor = np.full(len(full), 2.0)
    match kind:
        case "lpnet":
            return fit_lpnets(
                build_layer_features(layers(space), widths),
                widths,
                latency,
                ones,
                members=3,
                seed=0,
            )[0]
        case "lpnet-mlp":
            return fit_mlps(full, widths, latency, ones, seed=0)[0]
        case "flops-line":
            return baselines.fit_flops_line(layers(space), widths, latency, ones[0])
        case "kernel-ridge":
            return baselines.fit_kernel_ridge(full, floor, widths, latency, ones[0], seed=0)
        case "mixture":
            net, line, ridge = (fit(one, space) for one in ("lpnet", "flops-line", "kernel-ridge"))
            slower = Bottleneck(
                models=[net, line], log_factors=np.array([0.1, -0.1]), sharpness=4.0
            )
            bent = Blend(models=[net, line, ridge], shares=np.array([0.6, 0.3, 0.2]), level=0.1)
            return Blend(models=[slower, bent, net], shares=np.array([0.5, 0.2, 0.3]), level=0.0)
    return baselines.fit_gaussian_process(full, floor, widths, latency, ones[0])


class Served:
    """A model, fitted and exported."""

    def __init__(self, kind: str, space: SearchSpace) -> None:
        self.space = space
        self.model = fit(kind, space)
        knots = [np.array(widths, dtype=float) for widths in lattice_of(space)]
        grid = Grid(layers(space), knots, np.full(len(knots), 2.0))
        tables = dict[int, Tables]()

        def form(model: Any) -> Any:
            if isinstance(model, Blend | Bottleneck):
                return replace(model, models=[form(inner) for inner in model.models])
            if not isinstance(model, LPNet | FlopsLine):
                return model
            return tables.setdefault(
                id(model), grid.tabulate(model.overhead, 1e-3, model.layer_time)
            )

        self.data = export(form(self.model), groups=len(space.groups), half_width=HALF_WIDTH)
        self.session = onnxruntime.InferenceSession(self.data, providers=["CPUExecutionProvider"])

    def run(self, widths: Floats) -> dict[str, Floats]:
        names = [entry.name for entry in self.session.get_outputs()]
        return dict(
            zip(names, self.session.run(names, {"widths": widths.astype(np.float32)}), strict=True)
        )


@pytest.fixture(scope="module", params=[(kind, name) for name in SPACES for kind in WHOLE], ids=str)
def whole(request: pytest.FixtureRequest) -> Served:
    return Served(request.param[0], SPACES[request.param[1]])


@pytest.fixture(
    scope="module", params=[(kind, name) for name in SPACES for kind in WHOLE + OTHERS], ids=str
)
def served(request: pytest.FixtureRequest) -> Served:
    return Served(request.param[0], SPACES[request.param[1]])


def in_range(space: SearchSpace, count: int) -> Floats:
    """Widths [count, G], on the lattice and between, exact in single precision."""
    on_lattice = sampled(space, count, seed=3)
    parts = np.random.default_rng(0).integers(0, 16, on_lattice.shape) / 16
    return np.where(np.arange(count)[:, None] % 2, on_lattice, np.maximum(on_lattice - parts, 4))


def test_value_and_gradient_are_torchs(whole: Served) -> None:
    widths = in_range(whole.space, 30)
    at = torch.as_tensor(widths, dtype=torch.float64).requires_grad_()
    latency = whole.model.latency(at)
    (gradient,) = torch.autograd.grad(latency.sum(), at)
    got = whole.run(widths)
    np.testing.assert_allclose(got["latency_ms"], latency.detach(), rtol=1e-5)
    np.testing.assert_allclose(
        got["gradient"], gradient, rtol=2e-4, atol=1e-5 * float(gradient.abs().max())
    )


def test_on_the_lattice_the_value_is_the_models_own(served: Served) -> None:
    widths = sampled(served.space, 60, seed=5)
    np.testing.assert_allclose(
        served.run(widths)["latency_ms"], np.exp(served.model.log_latency(widths)), rtol=1e-5
    )


def test_the_gradient_is_the_finite_difference(served: Served) -> None:
    widths = in_range(served.space, 12)
    step = 1 / 16
    gradient = served.run(widths)["gradient"]
    moves = step * np.eye(len(served.space.groups))
    ends = [
        np.stack([served.run(widths + sign * move)["latency_ms"] for move in moves], axis=1)
        for sign in (1, -1)
    ]
    off = np.abs(gradient - (ends[0].astype(float) - ends[1]) / (2 * step)) / np.abs(gradient).max()
    kinked = isinstance(served.model, Mlp)  # a step across one of its kinks sees two slopes
    assert np.quantile(off, 0.9 if kinked else 1.0) < 0.01


def test_the_interval_brackets_and_shapes_follow_the_contract(served: Served) -> None:
    for count in (1, 7):
        got = served.run(in_range(served.space, count))
        groups = len(served.space.groups)
        assert {name: value.shape for name, value in got.items()} == {
            "latency_ms": (count,),
            "gradient": (count, groups),
            "lower_ms": (count,),
            "upper_ms": (count,),
        }
        assert all(value.dtype == np.float32 for value in got.values())
        np.testing.assert_allclose(
            got["lower_ms"], got["latency_ms"] * np.exp(-HALF_WIDTH), rtol=1e-5
        )
        np.testing.assert_allclose(
            got["upper_ms"], got["latency_ms"] * np.exp(HALF_WIDTH), rtol=1e-5
        )


def test_an_optimiser_that_strays_meets_finite_numbers(served: Served) -> None:
    full = np.array(served.space.full_widths, dtype=float)
    got = served.run(np.stack([0 * full, 0 * full - 3, 0.01 + 0 * full, 1.5 * full]))
    assert all(np.isfinite(value).all() for value in got.values())
    assert (got["latency_ms"] > 0).all()


def test_the_file_is_small_and_old_runtimes_read_it() -> None:
    data = Served("lpnet", SPACES["residual"]).data
    model = onnx.load_model_from_string(data)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}
    assert len(data) < 200_000
    assert len(model.graph.node) < 70


def test_trees_cannot_be_served() -> None:
    with pytest.raises(TypeError, match="no gradient"):
        export(baselines.Boosting(trees=None), groups=3, half_width=HALF_WIDTH)


def test_tables_of_a_mixture_are_read_at_places_found_once() -> None:
    found = {
        kind: onnx.load_from_string(Served(kind, SPACES["mixed"]).data).graph.node
        for kind in ("lpnet", "mixture")
    }
    kinds = {kind: [node.op_type for node in nodes] for kind, nodes in found.items()}
    assert kinds["mixture"].count("Floor") == kinds["lpnet"].count("Floor") == 1
    # of two tables, one more to be read and nothing more to be differentiated
    assert kinds["mixture"].count("Gather") == kinds["lpnet"].count("Gather") + 1
