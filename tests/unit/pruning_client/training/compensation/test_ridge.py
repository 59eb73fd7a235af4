"""Changes of weights: found where samples show them, and left out where they do not."""

from __future__ import annotations

import torch
from torch import Tensor

from pruning_client.training.compensation.ridge import Samples, _Regression, best_change

GROUPS, UNKNOWNS, OUTPUTS = 2, 6, 3


def samples(count: int, change: Tensor, shift: float = 0.0, noise: float = 0.0) -> Samples:
    random = torch.Generator().manual_seed(count)
    inputs = torch.randn(GROUPS, count, UNKNOWNS, generator=random) + 2
    lacking = inputs @ change + shift
    lacking += noise * torch.randn(lacking.shape, generator=random)
    return Samples(inputs=inputs, lacking=lacking, weights=torch.ones(GROUPS, OUTPUTS))


def planted() -> Tensor:
    random = torch.Generator().manual_seed(9)
    return torch.randn(GROUPS, UNKNOWNS, OUTPUTS, generator=random)


def test_a_planted_change_is_found() -> None:
    found = best_change(samples(400, planted(), 3.0), samples(50, planted(), 3.0), shifts=True)
    assert found is not None
    torch.testing.assert_close(found.weights, planted(), atol=0.02, rtol=0)
    torch.testing.assert_close(found.shift, torch.full((GROUPS, OUTPUTS), 3.0), atol=0.1, rtol=0)
    assert found.error < 1e-3


def test_constants_that_cannot_change_stay() -> None:
    found = best_change(samples(400, planted(), 3.0), samples(50, planted(), 3.0), shifts=False)
    assert found is not None
    assert found.shift.abs().max() == 0


def test_nothing_changes_where_there_is_nothing_to_learn() -> None:
    nothing = torch.zeros_like(planted())
    assert (
        best_change(samples(40, nothing, noise=1), samples(50, nothing, noise=1), shifts=True)
        is None
    )


def test_noisier_samples_are_followed_less() -> None:
    def size(noise: float) -> float:
        fit = samples(10, planted(), noise=noise)
        found = best_change(fit, samples(500, planted(), noise=noise), shifts=True)
        return 0.0 if found is None else float(found.weights.norm())

    assert size(3.0) < 0.8 * size(0.1)


def test_few_samples_give_what_many_equations_would() -> None:
    """The dual form, of fewer samples than unknowns, has the same solution as the primal one."""
    few = samples(UNKNOWNS - 2, planted())
    repeated = Samples(
        inputs=few.inputs.repeat(1, 3, 1), lacking=few.lacking.repeat(1, 3, 1), weights=few.weights
    )
    for penalty in (0.01, 1.0):
        dual, primal = (_Regression(fit, shifts=True).solve(penalty) for fit in (few, repeated))
        torch.testing.assert_close(dual, primal, atol=1e-4, rtol=1e-3)


def test_values_that_are_not_finite_change_nothing() -> None:
    broken = samples(40, planted())
    broken.inputs[0, 0, 0] = torch.nan
    assert best_change(broken, samples(50, planted()), shifts=True) is None
