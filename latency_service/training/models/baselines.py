"""The models that LPNet has to beat, fitted on the same measurements, mostly with scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LinearRegression
from torch import Tensor

from latency_service.core.arrays import Bools, Floats, Numbers
from latency_service.spaces.layers import Layer
from latency_service.training.models.kernels import best_noise, squared_distances, tuned_on

#: Share of the lowest measured latency under which the line on FLOPs never falls.
LOWEST_SHARE = 0.1
#: Lengths of the kernel that kernel ridge chooses from, by the root of the number of groups.
RIDGE_LENGTHS = (0.5, 1.0, 2.2, 5.0)


@dataclass(frozen=True, kw_only=True)
class FlopsLine:
    """latency = overhead + slope * multiply-accumulates, in ms."""

    layers: Sequence[Layer]
    overhead: float
    slope: float
    lowest_ms: float

    def layer_time(self, number: int, c_in: Floats, c_out: Floats, depth: Floats) -> Floats:
        """Latency [...] in ms of layer `number` at channel counts [...]."""
        return self.slope * self.layers[number].macs_of(c_out, depth)

    def log_latency(self, widths: Numbers) -> Floats:
        """Logarithm of the latency [N] of `widths` [N, G]."""
        return np.log(
            np.maximum(self.overhead + self.slope * _macs(self.layers, widths), self.lowest_ms)
        )


@dataclass(frozen=True, kw_only=True)
class KernelSum:
    """log latency = mean + sum_i alpha_i exp(-|x - x_i|^2 / 2) with x = log(widths / full) /
    lengths.
    """

    #: [G]
    full: Floats
    floor: Floats
    lengths: Floats
    #: x_i [n, G] and alpha [n]
    centres: Floats
    alpha: Floats
    mean: float

    def latency(self, widths: Tensor) -> Tensor:
        """Latency [N] in ms of `widths` [N, G], differentiable, float64."""
        held = torch.maximum(widths, torch.as_tensor(self.floor))
        x = torch.log(held / torch.as_tensor(self.full)) / torch.as_tensor(self.lengths)
        squares = ((x[:, None] - torch.as_tensor(self.centres)) ** 2).sum(-1)
        return torch.exp(self.mean + torch.exp(-0.5 * squares) @ torch.as_tensor(self.alpha))

    def log_latency(self, widths: Numbers) -> Floats:
        """Logarithm of the latency [N] of `widths` [N, G]."""
        return np.asarray(
            torch.log(self.latency(torch.as_tensor(widths, dtype=torch.float64))).numpy()
        )


@dataclass(frozen=True, kw_only=True)
class Boosting:
    """Trees on the widths: no gradient, so never served."""

    trees: Any

    def log_latency(self, widths: Numbers) -> Floats:
        """Logarithm of the latency [N] of `widths` [N, G]."""
        return np.asarray(self.trees.predict(widths))


def fit_flops_line(
    layers: Sequence[Layer], widths: Numbers, latency_ms: Floats, weights: Floats
) -> FlopsLine:
    """Least squares of the relative error; `weights` [N] of the measurements, 0 unseen."""
    seen = weights > 0
    macs = _macs(layers, widths[seen])
    latency = latency_ms[seen]
    line = LinearRegression().fit(macs[:, None], latency, sample_weight=weights[seen] / latency**2)
    return FlopsLine(
        layers=layers,
        overhead=float(line.intercept_),
        slope=float(line.coef_[0]),
        lowest_ms=LOWEST_SHARE * float(latency.min()),
    )


def _macs(layers: Sequence[Layer], widths: Numbers) -> Floats:
    return np.asarray(sum(layer.macs(widths.astype(np.float64)) for layer in layers))


def fit_kernel_ridge(
    full: Floats, floor: Floats, widths: Numbers, latency_ms: Floats, weights: Floats, *, seed: int
) -> KernelSum:
    """Kernel ridge with the length and the noise of the least mean absolute leave-one-out error, on
    at most 400 of the measurements.

    Args:
        full: [G].
        floor: widths below which the latency is constant [G].
        widths: [N, G].
        latency_ms: [N].
        weights: of the measurements [N], 0 for held-out ones.
    """
    seen, x, target, mean = _logarithms(full, widths, latency_ms, weights)

    def kernel(points: Floats, length: float) -> Floats:
        return np.asarray(np.exp(-0.5 * squared_distances(points, points) / length**2))

    tuned = tuned_on(len(x), seed)
    choices = []
    for length in len(full) ** 0.5 * np.array(RIDGE_LENGTHS):
        error, noise = best_noise(kernel(x[tuned], length), target[tuned], weights[seen][tuned])
        choices.append((error, noise, length))
    _, noise, length = min(choices)
    product = kernel(x, length) + np.diag(noise / weights[seen])
    return KernelSum(
        full=full,
        floor=floor,
        lengths=np.full(len(full), length),
        centres=x / length,
        alpha=np.asarray(np.linalg.solve(product, target)),
        mean=mean,
    )


def fit_gaussian_process(
    full: Floats, floor: Floats, widths: Numbers, latency_ms: Floats, weights: Floats
) -> KernelSum:
    """A Gaussian process with a length for each group, by the marginal likelihood."""
    seen, x, target, mean = _logarithms(full, widths, latency_ms, weights)
    scale = float(target.std())
    kernel = ConstantKernel(4.0, (1e-2, 1e4)) * RBF(
        np.full(len(full), 3.0), (0.1, 1e3)
    ) + WhiteKernel(1e-2, (1e-6, 1))
    process = GaussianProcessRegressor(kernel, optimizer=_maximise, alpha=1e-6 / weights[seen])
    with (
        warnings.catch_warnings()
    ):  # a length at its upper bound says that its group does not matter
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(x, target / scale)
    product = process.kernel_.k1
    lengths = np.asarray(product.k2.length_scale) * np.ones(len(full))
    alpha = process.alpha_ * product.k1.constant_value * scale
    return KernelSum(
        full=full, floor=floor, lengths=lengths, centres=x / lengths, alpha=alpha, mean=mean
    )


def fit_boosting(widths: Numbers, latency_ms: Floats, weights: Floats, seed: int) -> Boosting:
    """Gradient boosting of log latency."""
    seen = weights > 0
    trees = GradientBoostingRegressor(
        n_estimators=300,
        learning_rate=0.06,
        max_depth=3,
        subsample=0.7,
        min_samples_leaf=3,
        random_state=seed,
    )
    return Boosting(
        trees=trees.fit(widths[seen], np.log(latency_ms[seen]), sample_weight=weights[seen])
    )


def _logarithms(
    full: Floats, widths: Numbers, latency_ms: Floats, weights: Floats
) -> tuple[Bools, Floats, Floats, float]:
    """Which measurements are seen [N], their log widths [n, G], centred log latency [n], and its
    mean.
    """
    seen = weights > 0
    target = np.log(latency_ms[seen])
    return seen, np.log(widths[seen] / full), target - target.mean(), float(target.mean())


def _maximise(objective: Any, start: Floats, bounds: Floats) -> tuple[Floats, float]:
    found = minimize(
        objective, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": 30}
    )
    return found.x, found.fun
