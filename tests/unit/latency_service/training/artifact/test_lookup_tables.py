"""The tables are judged through the ONNX graph that serves them: there is no second implementation
of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest

from latency_service.spaces.layers import layers
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.artifact import lookup_tables
from latency_service.training.artifact.export import export
from latency_service.training.artifact.lookup_tables import Grid
from tests.support.simulated import lattice_of, mixed_space, residual_space

Floats = np.ndarray
SPACES = {"residual": residual_space, "mixed": mixed_space}
OVERHEAD = 0.25


def stepped(number: int, c_in: Floats, c_out: Floats, depth: Floats) -> Floats:
    """A latency with blocks, in ms, different in every layer."""
    return (1 + number) * 1e-3 * (c_in**0.7 + np.ceil(c_out / 16) * 2) * np.log1p(depth)


class Served:
    """`time` tabulated over a lattice and run by ONNX Runtime."""

    def __init__(
        self, space: SearchSpace, lattice: list[list[int]], time: Callable[..., Floats] = stepped
    ) -> None:
        self.layers = layers(space)
        self.time = time
        floor = np.array([0.5 * widths[0] for widths in lattice])
        knots = [np.array(widths, dtype=float) for widths in lattice]
        self.tables = Grid(self.layers, knots, floor).tabulate(OVERHEAD, 0.01, time)
        data = export(self.tables, groups=len(lattice), half_width=0.1)
        self.session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(self, widths: Floats) -> tuple[Floats, Floats]:
        latency, gradient = self.session.run(
            ["latency_ms", "gradient"], {"widths": widths.astype(np.float32)}
        )
        return latency, gradient

    def exact(self, widths: Floats) -> Floats:
        at = widths.astype(float)
        parts = [
            self.time(number, layer.c_in.at(at), layer.c_out.at(at), layer.depth.at(at))
            for number, layer in enumerate(self.layers)
        ]
        return OVERHEAD + np.sum(parts, axis=0)


def on_lattice(lattice: list[list[int]], count: int, *, inner: bool = False) -> Floats:
    rng = np.random.default_rng(0)
    return np.array(
        [
            [rng.choice(widths[1:-1] if inner else widths) for widths in lattice]
            for _ in range(count)
        ]
    )


LATTICES = {
    "multiples of 4": lambda space: lattice_of(space),
    "multiples of 8": lambda space: lattice_of(space, 8),
    "irregular": lambda space: [[3, 5, *range(8, g.width - 1, 7), g.width] for g in space.groups],
    "two widths": lambda space: [[g.width // 2, g.width] for g in space.groups],
    "one width": lambda space: [[g.width] for g in space.groups],
}


@pytest.mark.parametrize("lattice", LATTICES)
@pytest.mark.parametrize("name", SPACES)
def test_it_is_exact_on_the_lattice(name: str, lattice: str) -> None:
    space = SPACES[name]()
    widths = LATTICES[lattice](space)
    served = Served(space, widths)
    at = on_lattice(widths, 50)
    np.testing.assert_allclose(served.run(at)[0], served.exact(at), rtol=2e-6)


@pytest.mark.parametrize("lattice", ["multiples of 4", "multiples of 8", "irregular"])
def test_its_slope_on_the_lattice_is_the_central_difference(lattice: str) -> None:
    space = residual_space((32, 48, 64))
    widths = LATTICES[lattice](space)
    served = Served(space, widths)
    at = on_lattice(widths, 10, inner=True)
    gradient = served.run(at)[1]
    for g, choices in enumerate(widths):
        positions = np.array([choices.index(w) for w in at[:, g]])
        low = at.copy()
        high = at.copy()
        low[:, g], high[:, g] = np.array(choices)[positions - 1], np.array(choices)[positions + 1]
        expected = (served.exact(high) - served.exact(low)) / (high[:, g] - low[:, g])
        np.testing.assert_allclose(gradient[:, g], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", SPACES)
def test_it_is_smooth_between_the_widths_and_beyond_them(name: str) -> None:
    space = SPACES[name]()
    served = Served(space, lattice_of(space))
    full = np.array(space.full_widths, dtype=float)
    at = np.round(np.random.default_rng(1).uniform(2.5, 1.2 * full, size=(20, len(full))) * 64) / 64
    gradient = served.run(at)[1]
    step = 1 / 16
    for g in range(len(full)):
        move = step * np.eye(len(full))[g]
        difference = (served.run(at + move)[0].astype(float) - served.run(at - move)[0]) / (
            2 * step
        )
        np.testing.assert_allclose(gradient[:, g], difference, atol=0.01 * np.abs(gradient).max())


def test_products_of_widths_are_exact_everywhere() -> None:
    space = residual_space()
    served = Served(
        space, lattice_of(space), lambda number, c_in, c_out, depth: 1e-4 * c_out * depth
    )
    at = np.random.default_rng(0).uniform(4, space.full_widths, size=(20, len(space.groups)))
    np.testing.assert_allclose(served.run(at)[0], served.exact(at), rtol=1e-5)


def test_huge_lattices_are_thinned_and_keep_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_tables, "MOST_ENTRIES", 3000)
    space = residual_space()
    lattice = [list(range(1, g.width + 1)) for g in space.groups]
    served = Served(space, lattice, lambda number, c_in, c_out, depth: 1e-4 * c_out * depth)
    assert len(served.tables.values) <= 3000
    ends = np.array([[1] * len(lattice), space.full_widths])
    np.testing.assert_allclose(served.run(ends)[0], served.exact(ends), rtol=1e-5)


def test_it_is_never_below_the_lowest() -> None:
    space = residual_space()
    served = Served(space, lattice_of(space), lambda number, c_in, c_out, depth: -c_out)
    assert served.run(np.array([space.full_widths]))[0] == pytest.approx(0.01)
