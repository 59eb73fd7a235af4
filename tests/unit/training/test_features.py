from __future__ import annotations

import numpy as np
import pytest
import torch

from latency_service.spaces.layers import layers
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.features import Encoding, build_encoding
from tests.unit.training.networks import lattice_of, mixed_space, residual_space, sampled

SPACES = {"residual": residual_space, "mixed": mixed_space}


def encode(encoding: Encoding, widths: object) -> torch.Tensor:
    return encoding.encode(torch.as_tensor(np.asarray(widths), dtype=torch.float64))


@pytest.mark.parametrize("name", SPACES)
def test_log_macs_are_those_of_the_layers(name: str) -> None:
    space = SPACES[name]()
    widths = sampled(space, 20, seed=0)
    encoding = build_encoding(space, lattice_of(space), widths)
    expected = np.log(np.stack([layer.macs(widths.astype(float)) for layer in layers(space)], axis=1))
    np.testing.assert_allclose(encoding.log_macs(encode(encoding, widths)), expected, rtol=1e-9)


def excess(encoding: Encoding, widths: torch.Tensor) -> torch.Tensor:
    """The tabulated part of the code [N, G, columns]."""
    assert encoding.spline is not None
    tail = encoding.encode(widths)[:, len(encoding.constant) :]
    return tail.reshape(len(widths), -1, encoding.spline.columns)


def one_group(lattice: list[int], minimum: int = 4) -> tuple[SearchSpace, Encoding]:
    space = residual_space((48,), 1)
    groups = [g.model_copy(update={"minimum": minimum}) for g in space.groups]
    space.manifest.groups[:] = groups
    widths = np.array([[lattice[0]] * len(groups), [48] * len(groups)])
    return space, build_encoding(space, [lattice] * len(groups), widths)


@pytest.mark.parametrize("lattice", [list(range(4, 49, 4)), [3, 5, 16, 17, 40, 48], list(range(1, 49)), [8, 48]])
def test_blocks_are_exact_on_the_lattice_and_slopes_are_its_differences(lattice: list[int]) -> None:
    space, encoding = one_group(lattice, minimum=lattice[0])
    blocks = [b for b in (4, 8, 16, 32) if any(w % b for w in [*lattice, 48])]
    at = torch.tensor([[w] * len(space.groups) for w in lattice], dtype=torch.float64, requires_grad=True)
    values = excess(encoding, at)
    for column, block in enumerate(blocks):
        exact = np.log(np.ceil(np.array(lattice) / block) * block / lattice)
        for group in range(len(space.groups)):
            np.testing.assert_allclose(values[:, group, column].detach(), exact, atol=1e-9)
        (slope,) = torch.autograd.grad(values[..., column].sum(), at, retain_graph=True)
        central = (exact[2:] - exact[:-2]) / (np.array(lattice)[2:] - np.array(lattice)[:-2])
        np.testing.assert_allclose(slope[1:-1, 0], central, atol=1e-9)


def test_no_block_is_left_where_the_lattice_fills_all_of_them() -> None:
    space, widths = residual_space((64,), 1), np.array([[32, 64], [64, 64]])
    assert build_encoding(space, [[32, 64]] * 2, widths).spline is not None  # the minimum of 4 fills no block
    space.manifest.groups[:] = [g.model_copy(update={"minimum": 32}) for g in space.groups]
    assert build_encoding(space, [[32, 64]] * 2, widths).spline is None


@pytest.mark.parametrize("name", SPACES)
def test_the_code_is_smooth_between_and_beyond_lattice_widths(name: str) -> None:
    space = SPACES[name]()
    encoding = build_encoding(space, lattice_of(space), sampled(space, 10, seed=0))
    full = np.array(space.full_widths)
    widths = np.random.default_rng(0).uniform(2.1, 1.3 * full, size=(6, len(full)))
    at = torch.as_tensor(widths, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(encoding.encode, (at,), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SPACES)
def test_features_are_standardised_and_none_is_constant(name: str) -> None:
    space = SPACES[name]()
    widths = sampled(space, 40, seed=0)
    encoding = build_encoding(space, lattice_of(space), widths)
    flat = encoding.features(encode(encoding, widths)).reshape(-1, encoding.offset.shape[1])
    np.testing.assert_allclose(flat.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(flat.std(0, correction=0), 1, atol=1e-9)


def test_widths_below_anything_measured_stay_finite(space: SearchSpace) -> None:
    encoding = build_encoding(space, lattice_of(space), sampled(space, 10, seed=0))
    assert torch.isfinite(encode(encoding, np.zeros((1, len(space.groups))))).all()
