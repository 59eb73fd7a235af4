"""Changes of a layer's weights by ridge regression, with the penalty chosen on held-out samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Penalties to choose from, as shares of the mean diagonal of the inputs' covariance.
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
#: Smallest relative improvement on held-out samples for which weights are changed.
LEAST_GAIN = 0.005
#: Error, as a share of the outputs' variance, that is left as it is.
LEAST_ERROR = 1e-6


@dataclass(frozen=True, kw_only=True)
class Change:
    """Change of a layer's weights and constants that brings its outputs nearer to others."""

    #: [G, K, O]
    weights: Tensor
    #: [G, O]
    shift: Tensor
    #: Squared error on held-out samples, as a share of that without the change.
    error: float


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Inputs of a layer and what its outputs lack there."""

    #: Patches [G, S, K].
    inputs: Tensor
    #: Wanted minus present outputs [G, S, O].
    lacking: Tensor
    #: Importance of each output [G, O]: the inverse of its variance.
    weights: Tensor

    def split(self, held_out: int) -> tuple[Samples, Samples]:
        """Two parts, the second with the last `held_out` samples."""
        kept = self.inputs.shape[1] - held_out
        return self._part(slice(None, kept)), self._part(slice(kept, None))

    def _part(self, samples: slice) -> Samples:
        return Samples(
            inputs=self.inputs[:, samples], lacking=self.lacking[:, samples], weights=self.weights
        )


def best_change(fit: Samples, held_out: Samples, *, shifts: bool) -> Change | None:
    """The change with the least error on held-out samples, or None if none is better.

    It minimises ``|R - X D - s|^2 + p |D|^2`` for what is lacking R and a penalty p: the penalty is
    on the change D, not on the weights, so that few samples leave the weights as they are.

    Args:
        shifts: Whether the layer's constants s may change too.
    """
    found: Change | None = None
    before = _error(held_out, held_out.lacking)
    if not before > LEAST_ERROR:
        return None
    regression = _Regression(fit, shifts=shifts)
    for penalty in PENALTIES:
        weights, shift = regression.solve(penalty)
        left = held_out.lacking - held_out.inputs @ weights - shift[:, None]
        error = _error(held_out, left) / before
        if error < (1 - LEAST_GAIN if found is None else found.error):
            found = Change(weights=weights, shift=shift, error=error)
    return found


class _Regression:
    """Ridge regressions with one set of samples and several penalties.

    With fewer samples than unknowns the dual form is solved.
    """

    def __init__(self, samples: Samples, *, shifts: bool) -> None:
        inputs, lacking = samples.inputs, samples.lacking
        self._means = inputs.mean(1) if shifts else torch.zeros_like(inputs[:, 0])
        self._lacking = lacking.mean(1) if shifts else torch.zeros_like(lacking[:, 0])
        self._inputs = inputs - self._means[:, None]
        wanted = lacking - self._lacking[:, None]
        transposed = self._inputs.transpose(1, 2)
        self._is_dual = inputs.shape[1] < inputs.shape[2]
        if self._is_dual:
            gram, target = self._inputs @ transposed, wanted
        else:
            gram, target = transposed @ self._inputs, transposed @ wanted
        # not every accelerator has double precision
        self._gram, self._target = gram.cpu().double(), target.cpu().double()
        traces = self._gram.diagonal(dim1=1, dim2=2).sum(1) / inputs.shape[2]
        self._scale = traces.clamp_min(1e-12 + 1e-6 * float(traces.max()))

    def solve(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Changes of the weights [G, K, O] and of the constants [G, O]."""
        identity = torch.eye(self._gram.shape[1], dtype=self._gram.dtype)
        # values that are not finite give a change whose error is not finite, which nobody takes
        factor, _ = torch.linalg.cholesky_ex(
            self._gram + penalty * self._scale[:, None, None] * identity
        )
        solved = torch.cholesky_solve(self._target, factor).to(self._inputs)
        weights = self._inputs.transpose(1, 2) @ solved if self._is_dual else solved
        return weights, self._lacking - (self._means[:, None] @ weights)[:, 0]


def _error(samples: Samples, left: Tensor) -> float:
    """Squared error of the outputs by their importance."""
    return float((left.square().mean(1) * samples.weights).mean())
