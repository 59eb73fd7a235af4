"""Equations of a fit, solved among the parameters and among the measurements alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latency_service.training.models.curvature import Curvature

NETWORKS = 3
DAMPING = torch.full((NETWORKS, 1), 0.3, dtype=torch.float64)


def _curvature(measurements: int, parameters: int) -> Curvature:
    random = torch.Generator().manual_seed(measurements)

    def drawn(*shape: int) -> Tensor:
        return torch.rand(NETWORKS, *shape, generator=random, dtype=torch.float64)

    evidence = 100 * drawn(measurements)
    evidence[:, 0] = 0  # held out
    return Curvature(
        jacobian=drawn(measurements, parameters) - 0.5,
        evidence=evidence,
        strengths=0.01 + drawn(parameters),
    )


def _whole(given: Curvature) -> Tensor:
    """The matrix itself [M, P, P]."""
    weighted = given.jacobian.mT @ (given.evidence[..., None] * given.jacobian)
    return weighted + torch.diag_embed(given.strengths)


@pytest.mark.parametrize(("measurements", "parameters"), [(6, 40), (19, 40), (21, 40), (60, 8)])
def test_both_ways_solve_the_same_equations(measurements: int, parameters: int) -> None:
    given = _curvature(measurements, parameters)
    whole = _whole(given)
    inverse = torch.linalg.inv(whole)
    variances = given.variances()
    assert variances is not None
    torch.testing.assert_close(variances, inverse.diagonal(dim1=1, dim2=2))
    seen = (given.jacobian @ inverse @ given.jacobian.mT).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(given.variance_of_predictions(), seen)
    right = torch.ones(NETWORKS, parameters, dtype=torch.float64)
    damped = whole + torch.diag_embed(DAMPING * whole.diagonal(dim1=1, dim2=2))
    found, solved = given.solve(right, DAMPING)
    assert bool(solved.all())
    torch.testing.assert_close(found, torch.linalg.solve(damped, right[..., None])[..., 0])


def test_the_gradient_is_that_of_the_weighted_squares() -> None:
    given = _curvature(7, 5)
    residual = torch.arange(7, dtype=torch.float64).expand(NETWORKS, -1)
    expected = torch.einsum("mnp,mn,mn->mp", given.jacobian, given.evidence, residual)
    torch.testing.assert_close(given.gradient(residual), expected)


@pytest.mark.parametrize("measurements", [6, 60])
def test_what_is_not_finite_is_not_solved(measurements: int) -> None:
    given = _curvature(measurements, 40)
    given.jacobian[1, 2, 3] = torch.nan
    assert given.variances() is None
    _, solved = given.solve(torch.ones(NETWORKS, 40, dtype=torch.float64), DAMPING)
    assert solved.tolist() == [True, False, True]
