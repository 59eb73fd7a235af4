"""Gauss-Newton curvature of M networks with P parameters and N measurements each.

It is D + J^T E J, with the priors' strengths on the diagonal D, the Jacobian J and the evidence of
each measurement on the diagonal E. With fewer measurements than parameters, equations are solved in
the space of the measurements (Woodbury's identity): ten of them make matrices of 10 x 10.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """The curvature at the present parameters."""

    #: [M, N, P]
    jacobian: Tensor
    #: [M, N]
    evidence: Tensor
    #: [M, P]
    strengths: Tensor

    def gradient(self, residual: Tensor) -> Tensor:
        """J^T E r [M, P] for residuals r [M, N]."""
        return ((self.evidence * residual)[:, None] @ self.jacobian)[:, 0]

    def solve(self, right: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
        """Solutions [M, P] of the damped equations, and for which networks there is one [M].

        Args:
            right: Right-hand sides [M, P].
            damping: Share of the diagonal that is added to it [M, 1].
        """
        diagonal = self.strengths + damping * (self.strengths + self._own_diagonal())
        if not self._is_wide:
            factor, failed = torch.linalg.cholesky_ex(self._whole(diagonal))
            return torch.cholesky_solve(right[..., None], factor)[..., 0], failed == 0
        scaled = self._scaled(diagonal)
        factor, failed = _small_factor(scaled)
        # with A = sqrt(E) J: (D + A^T A)^-1 = D^-1 - D^-1 A^T (1 + A D^-1 A^T)^-1 A D^-1
        first = right / diagonal.sqrt()
        inner = torch.cholesky_solve(scaled @ first[..., None], factor)
        return (first - (scaled.mT @ inner)[..., 0]) / diagonal.sqrt(), failed == 0

    def variances(self) -> Tensor | None:
        """Diagonal of the inverse [M, P]; None if one cannot be inverted."""
        if not self._is_wide:
            factor, failed = torch.linalg.cholesky_ex(self._whole(self.strengths))
            if bool(failed.any()):
                return None
            inverse: Tensor = torch.cholesky_inverse(factor)
            return inverse.diagonal(dim1=1, dim2=2)
        scaled = self._scaled(self.strengths)
        factor, failed = _small_factor(scaled)
        if bool(failed.any()):
            return None
        half: Tensor = torch.linalg.solve_triangular(factor, scaled, upper=False)
        return (1 - half.square().sum(1)) / self.strengths

    def variance_of_predictions(self) -> Tensor:
        """Diagonal of J C^-1 J^T [M, N], with the curvature C."""
        if not self._is_wide:
            factor, _ = torch.linalg.cholesky_ex(self._whole(self.strengths))
            seen: Tensor = torch.linalg.solve_triangular(factor, self.jacobian.mT, upper=False)
            return seen.square().sum(1)
        scaled = self._scaled(self.strengths)
        factor, _ = _small_factor(scaled)
        plain = self.jacobian / self.strengths.sqrt()[:, None]
        half: Tensor = torch.linalg.solve_triangular(factor, scaled @ plain.mT, upper=False)
        return plain.square().sum(2) - half.square().sum(1)

    @property
    def _is_wide(self) -> bool:
        return 2 * self.jacobian.shape[1] < self.jacobian.shape[2]

    @functools.cached_property
    def _product(self) -> Tensor:
        """J^T E J [M, P, P]."""
        return (self.jacobian * self.evidence[..., None]).mT @ self.jacobian

    def _own_diagonal(self) -> Tensor:
        """Diagonal of J^T E J [M, P]."""
        if not self._is_wide:
            return self._product.diagonal(dim1=1, dim2=2)
        return (self.evidence[..., None] * self.jacobian.square()).sum(1)

    def _whole(self, diagonal: Tensor) -> Tensor:
        """The curvature [M, P, P] with this diagonal D."""
        found = self._product.clone()
        torch.diagonal(found, dim1=1, dim2=2).add_(diagonal)
        return found

    def _scaled(self, diagonal: Tensor) -> Tensor:
        """sqrt(E) J D^-1/2 [M, N, P]."""
        return self.evidence.sqrt()[..., None] * self.jacobian / diagonal.sqrt()[:, None]


def _small_factor(scaled: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factor [M, N, N] of 1 + A D^-1 A^T, and where there is none [M]."""
    gram = scaled @ scaled.mT
    torch.diagonal(gram, dim1=1, dim2=2).add_(1)
    factor, failed = torch.linalg.cholesky_ex(gram)
    return factor, failed
