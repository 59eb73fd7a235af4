"""Levenberg-Marquardt fit of LPNet on the error of log latency.

The strengths of the priors and of the noise are re-estimated from the evidence (MacKay 1992;
Foresee and Hagan 1997): with a hundred measurements the fit needs no tuning and no early stopping.
All members of an ensemble and all folds of cross-validation are fitted as one batch of M networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latency_service.training.models.curvature import Curvature
from latency_service.training.models.lpnet_network import (
    Inputs,
    Parameters,
    Prediction,
    flatten,
    forward,
    jacobian,
    unflatten,
)

ITERATIONS = 70
#: First iteration that re-estimates the evidence, when the fit is near its optimum, and the number
#: of iterations between two estimates.
EVIDENCE_FROM = 12
EVIDENCE_EVERY = 6
#: Lower bound of the relative noise of a measurement.
LEAST_NOISE = 1e-3
#: Minimum share of a measurement's variance that the other measurements leave: one that alone
#: determines its prediction gives no information.
LEAST_LEFT = 1e-3
#: Degrees of freedom of the noise (Student's t): a disturbed measurement must not bend the network.
TAILS = 4.0
#: Initial strengths of the priors, in the order of `Parameters`.
FROM_NOTHING = (4.0, 1.0, 1.0, 4.0, 100.0, 1000.0, 1e-2, 1.0)
#: Pseudo-observations of the initial strengths and of the initial noise: few, but many near a
#: source, where ten measurements would otherwise be fitted exactly.
DOUBT = (1e-2, 0.0)
NEAR_DOUBT = (30.0, 4.0)
FIRST_NOISE = 0.03
#: Limits of the damping, and its factors after an accepted and a rejected step.
DAMPING_RANGE = (1e-6, 1e6)
DAMPING_DOWN = 0.3
DAMPING_UP = 5


class Data(NamedTuple):
    """Measurements: what the networks see of the architectures, logarithms of latencies [N], and
    the weights [M, N] of the measurements in each network's fit.
    """

    inputs: Inputs
    log_latency: Tensor
    weights: Tensor

    def predict(self, p: Parameters) -> Prediction:
        """Predictions of the networks `p` for the measured architectures."""
        return forward(p, self.inputs)

    def residual(self, at: Prediction) -> Tensor:
        """Measured minus predicted log latency [M, N]."""
        return self.log_latency - at.log_latency


def fit(
    data: Data, start: Parameters, near: Sequence[float] | None, progress: Callable[[float], None]
) -> tuple[Parameters, Tensor]:
    """Fitted networks, and the expected variance [M, N] of each measurement's error in a fit
    without it.

    Args:
        near: initial strengths of the priors where `start` is another target's network.
        progress: receives the finished share after each iteration.
    """
    descent = _Descent(data, start, _Priors(start, data, near))
    for iteration in range(ITERATIONS):
        curvature = descent.step()
        if iteration >= EVIDENCE_FROM and iteration % EVIDENCE_EVERY == 0:
            descent.update_priors(curvature)
        progress((iteration + 1) / ITERATIONS)
    return descent.parameters, descent.unseen_variance()


class _Descent:
    """State of the optimisation: parameters [M, P], their predictions, and the damping [M, 1]."""

    def __init__(self, data: Data, start: Parameters, priors: _Priors) -> None:
        self._data = data
        self._start = start
        self._priors = priors
        self._theta = flatten(start)
        self._centre = self._theta * priors.centred
        self._damping = torch.full((len(self._theta), 1), 1e-1, dtype=torch.float64)
        self._at = data.predict(start)

    @property
    def parameters(self) -> Parameters:
        """The networks as they are now."""
        return unflatten(self._theta, self._start)

    def step(self) -> Curvature:
        """Try one step and keep it for the networks that it improves; returns the curvature before
        it.
        """
        residual = self._data.residual(self._at)
        curvature = self._priors.curvature(self._jacobian(), self._data.weights)
        slope = curvature.gradient(residual) - self._priors.pull(self._theta - self._centre)
        change, solved = curvature.solve(slope, self._damping)
        tried = self._theta + change
        after = self._data.predict(unflatten(tried, self._start))
        before = self._loss(residual, self._theta)
        better = solved & (self._loss(self._data.residual(after), tried) < before)
        self._accept(better, tried, after)
        return curvature

    def update_priors(self, curvature: Curvature) -> None:
        """Re-estimate the strengths of the priors and of the noise."""
        self._priors.update(
            curvature,
            self._data.residual(self._at),
            self._theta - self._centre,
            self._data.weights,
        )

    def unseen_variance(self) -> Tensor:
        """Expected variance [M, N] of each measurement's error in a fit without it."""
        return self._priors.unseen_variance(self._jacobian(), self._data.weights)

    def _jacobian(self) -> Tensor:
        return jacobian(self.parameters, self._data.inputs, self._at)

    def _loss(self, residual: Tensor, theta: Tensor) -> Tensor:
        return self._priors.loss(residual, theta - self._centre, self._data.weights)

    def _accept(self, better: Tensor, tried: Tensor, after: Prediction) -> None:
        self._theta = _choose(better, tried, self._theta)
        pairs = zip(after, self._at, strict=True)
        self._at = Prediction(*(_choose(better, new, old) for new, old in pairs))
        self._damping = torch.where(
            better[:, None], self._damping * DAMPING_DOWN, self._damping * DAMPING_UP
        ).clamp(*DAMPING_RANGE)


def _choose(better: Tensor, after: Tensor, before: Tensor) -> Tensor:
    return torch.where(better.reshape(-1, *(1,) * (after.dim() - 1)), after, before)


class _Priors:
    """Gaussian priors by kind of parameter, and the noise. Their strengths (inverse variances) are
    estimated from the evidence.
    """

    def __init__(self, start: Parameters, data: Data, near: Sequence[float] | None) -> None:
        """`near`: initial strengths where `start` is another target's network."""
        sizes = start.sizes()
        self.slices = _slices(sizes)
        self.doubt = DOUBT if near is None else NEAR_DOUBT
        self.strengths = _repeated(near or FROM_NOTHING, sizes, len(data.weights))
        self._first = self.strengths.clone()
        #: Inverse variance of the noise [M, 1].
        self.precision = torch.full((len(data.weights), 1), 1 / FIRST_NOISE**2, dtype=torch.float64)
        #: Weight of the evidence of each measurement [M, N].
        self.trust = torch.ones_like(data.weights)
        #: 1 where the starting value is the centre of the prior, 0 where zero is [P]: the first for
        #: scale and overhead, and for all parameters of a transferred network.
        self.centred = torch.full((sum(sizes),), float(near is not None), dtype=torch.float64)
        self.centred[self.slices[-2].start :] = 1.0

    def curvature(self, jacobian: Tensor, weights: Tensor) -> Curvature:
        """Gauss-Newton curvature of the negative log posterior."""
        return Curvature(
            jacobian=jacobian,
            evidence=self._evidence_weight(weights),
            strengths=self.strengths.clone(),
        )

    def pull(self, theta: Tensor) -> Tensor:
        """Gradient [M, P] of the priors."""
        return self.strengths * theta

    def unseen_variance(self, jacobian: Tensor, weights: Tensor) -> Tensor:
        """Variance [M, N] of each measurement about the prediction of a fit without it, in squared
        log latency.

        Laplace's approximation of the posterior (MacKay 1992), less the contribution of the
        measurement itself in closed form (Sherman and Morrison 1950), plus the noise.
        """
        variance = self.curvature(jacobian, weights).variance_of_predictions()
        left = (1 - self._evidence_weight(weights) * variance).clamp(min=LEAST_LEFT)
        unseen: Tensor = variance / left + 1 / self.precision
        return unseen

    def loss(self, residual: Tensor, theta: Tensor, weights: Tensor) -> Tensor:
        """Negative log posterior [M] up to a constant."""
        error = (self._evidence_weight(weights) * residual**2).sum(1)
        return 0.5 * (error + (self.strengths * theta**2).sum(1))

    def update(
        self, curvature: Curvature, residual: Tensor, theta: Tensor, weights: Tensor
    ) -> None:
        """Re-estimate strengths and noise from the number of well-determined parameters, then the
        weight of each measurement's evidence.
        """
        variances = curvature.variances()
        if variances is None:
            return
        effective = torch.zeros_like(self.precision)
        for part in self.slices[:-2]:
            effective += self._update_strength(part, variances[:, part], theta[:, part])
        self._update_noise(effective, residual, weights)
        self.trust = (TAILS + 1) / (TAILS + self.precision * weights * residual**2)

    def _update_strength(self, part: slice, variances: Tensor, theta: Tensor) -> Tensor:
        """Re-estimate one prior; returns the number of its well-determined parameters [M, 1]."""
        prior, noise_prior = self.doubt
        strength = self.strengths[:, part]
        determined = (1 - strength * variances).clamp(0, 1).sum(1, keepdim=True)
        energy = (theta**2).sum(1, keepdim=True)
        expected = self._first[:, part][:, :1] if noise_prior else strength[:, :1]
        estimate = (determined + prior) / (energy + prior / expected)
        self.strengths[:, part] = estimate.clamp(1e-3, 1e6)
        return determined

    def _update_noise(self, effective: Tensor, residual: Tensor, weights: Tensor) -> None:
        noise_prior = self.doubt[1]
        count = (weights > 0).sum(1, keepdim=True)
        share = self.trust * weights
        error = (share * residual**2).sum(1, keepdim=True) / weights.sum(1, keepdim=True) * count
        free = (count - effective - 2).clamp(min=1) + 2
        expected = noise_prior * FIRST_NOISE**2
        self.precision = (free + noise_prior) / (error + 2 * LEAST_NOISE**2 + expected)

    def _evidence_weight(self, weights: Tensor) -> Tensor:
        return self.precision * self.trust * weights


def _slices(sizes: Sequence[int]) -> list[slice]:
    """Consecutive slices of these lengths."""
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _repeated(strengths: Sequence[float], sizes: Sequence[int], count: int) -> Tensor:
    """One strength for each parameter of each of `count` networks [M, P]."""
    pairs = zip(sizes, strengths, strict=True)
    return torch.cat([torch.full((count, size), value) for size, value in pairs], 1).double()
