"""Kernel models of plain vectors: ridge by leave-one-out errors, a Gaussian process by its
evidence.

Both have the kernel ``s exp(-|f - f'|^2 / 2) + w f.f' + const`` over the features f of
`block_features`, divided by their lengths: a smooth surface on top of a linear function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from latency_service.core.arrays import Floats, Ints, Numbers
from latency_service.training.models.block_features import BlockFeatures

#: Maximum number of measurements used to choose the parameters of the kernel.
MOST_TUNED_ON = 400
#: Variance of the constant: latencies are centred, so it is never far from 0.
CONSTANT = 10.0
LENGTHS = (0.6, 1.0, 1.8, 3.2, 5.6)
LINES = (0.03, 0.3, 3.0, 30.0)
#: Centre of the prior of scale, line, noise and common length, in logarithms.
EVIDENCE_START = (0.0, 0.0, -5.0, 0.5)
NOISES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True, kw_only=True)
class KernelLine:
    """log latency = mean + linear . f + sum_i alpha_i exp(-|f / lengths - c_i|^2 / 2), latency in
    ms.
    """

    features: BlockFeatures
    mean: float
    #: [F]
    linear: Floats
    lengths: Floats
    #: [n, F] and [n]
    centres: Floats
    alpha: Floats

    def log_latency(self, widths: Numbers) -> Floats:
        """Logarithm of the latency [N] of the vectors `widths` [N, D]."""
        f = self.features.at(widths)[:, 0]
        bent = np.exp(-0.5 * squared_distances(f / self.lengths, self.centres)) @ self.alpha
        return np.asarray(self.mean + f @ self.linear + bent)


@dataclass(frozen=True, kw_only=True)
class _Kernel:
    scale: float
    #: [F]
    lengths: Floats
    line: float
    noise: float

    def product(self, f: Floats) -> Floats:
        """Kernel matrix [n, n] of the features `f` [n, F], without constant and noise."""
        scaled = f / self.lengths
        bent = self.scale * np.exp(-0.5 * squared_distances(scaled, scaled))
        return np.asarray(bent + self.line * f @ f.T)


def fit_kernel_line(
    features: BlockFeatures,
    vectors: Numbers,
    latency_ms: Floats,
    weights: Floats,
    *,
    evidence: bool,
    seed: int,
) -> KernelLine:
    """Kernel ridge, or with `evidence` a Gaussian process whose kernel has the greatest evidence.

    Args:
        vectors: [N, D].
        latency_ms: [N].
        weights: of the measurements [N], 0 for held-out ones.
    """
    seen = np.flatnonzero(weights)
    f = features.at(vectors[seen])[:, 0]
    target = np.log(latency_ms[seen])
    mean = float(np.average(target, weights=weights[seen]))
    tuned = tuned_on(len(seen), seed)
    choose: Callable[[Floats, Floats, Floats], _Kernel] = (
        _by_evidence if evidence else _by_leaving_out
    )
    kernel = choose(f[tuned], target[tuned] - mean, weights[seen][tuned])
    product = kernel.product(f) + CONSTANT + np.diag(kernel.noise / weights[seen])
    alpha = np.linalg.solve(product, target - mean)
    return KernelLine(
        features=features,
        mean=mean + CONSTANT * float(alpha.sum()),
        linear=kernel.line * f.T @ alpha,
        lengths=kernel.lengths,
        centres=f / kernel.lengths,
        alpha=np.asarray(kernel.scale * alpha),
    )


def tuned_on(count: int, seed: int) -> Ints:
    """Places of the measurements that the parameters of a kernel are chosen on, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:MOST_TUNED_ON])


def _by_leaving_out(f: Floats, target: Floats, weights: Floats) -> _Kernel:
    """The kernel with the least mean absolute leave-one-out error, in closed form from one
    decomposition.
    """
    size = f.shape[1]
    distances = squared_distances(f, f)
    products = f @ f.T / size
    best: tuple[float, _Kernel] | None = None
    for length in LENGTHS:
        bent = np.exp(-0.5 * distances / (size * length**2))
        for line in LINES:
            error, noise = best_noise(bent + line * products + CONSTANT, target, weights)
            if best is None or error < best[0]:
                lengths = np.full(size, length * np.sqrt(size))
                best = error, _Kernel(scale=1.0, lengths=lengths, line=line / size, noise=noise)
    assert best is not None
    return best[1]


def best_noise(product: Floats, target: Floats, weights: Floats) -> tuple[float, float]:
    """Lowest weighted mean absolute leave-one-out error with the kernel matrix `product` [n, n],
    and the noise that reaches it.
    """
    root = np.sqrt(weights)
    values, vectors = np.linalg.eigh(root[:, None] * product * root)
    turned = vectors.T @ (root * target)
    errors = []
    for noise in NOISES:
        inverse = 1 / (np.maximum(values, 0) + noise)
        left_out = (vectors @ (inverse * turned)) / (vectors**2 @ inverse) / root
        errors.append(float(np.average(np.abs(left_out), weights=weights)))
    best = int(np.argmin(errors))
    return errors[best], NOISES[best]


def _by_evidence(f: Floats, target: Floats, weights: Floats) -> _Kernel:
    """The kernel with the greatest marginal likelihood: a length for each feature around a common
    one (log-normal prior).
    """
    size = f.shape[1]
    deviation = max(float(target.std()), 1e-6)
    evidence = _Evidence(*(torch.as_tensor(part) for part in (f, target / deviation, 1 / weights)))
    bounds = [(-9, 9), (-9, 9), (-14, 1), (-2, 4), *[(-2.0, 4.0)] * size]
    found = minimize(
        evidence.loss_and_gradient,
        np.concatenate([np.array(EVIDENCE_START), np.zeros(size)]),
        method="L-BFGS-B",
        jac=True,
        bounds=bounds,
        options={"maxiter": 40},
    )
    return evidence.kernel(torch.as_tensor(found.x), deviation**2)


class _Evidence(NamedTuple):
    """Negative log evidence of a Gaussian process, as a function of its kernel's parameters theta:
    logarithms of scale, line, noise and common length, then of each feature's relative length.
    """

    #: Features [n, F], standardised log latency [n], and relative noise variance [n].
    x: Tensor
    y: Tensor
    noise_shape: Tensor

    def loss_and_gradient(self, start: Floats) -> tuple[float, Floats]:
        """Negative log posterior at `start` [4 + F], and its gradient [4 + F]."""
        theta = torch.tensor(start, requires_grad=True)
        factor = torch.linalg.cholesky(self._product(theta))
        solved = torch.linalg.solve_triangular(factor, self.y[:, None], upper=False)
        centre = torch.tensor(EVIDENCE_START, dtype=torch.float64)
        prior = (theta[4:] ** 2).sum() / 2 + ((theta[:4] - centre) ** 2).sum() / 32
        loss = 0.5 * (solved**2).sum() + torch.log(torch.diagonal(factor)).sum() + prior
        loss.backward()
        assert theta.grad is not None
        return float(loss.detach()), theta.grad.numpy()

    def kernel(self, theta: Tensor, square: float) -> _Kernel:
        """The kernel at `theta`; `square` is the variance that the target was divided by."""
        scale, lengths, line, noise = (part.numpy() for part in self._parts(theta))
        return _Kernel(
            scale=float(scale) * square,
            lengths=lengths,
            line=float(line) * square,
            noise=float(noise) * square,
        )

    def _parts(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        size = self.x.shape[1]
        scale, line, noise = torch.exp(theta[:3])
        lengths = torch.exp(theta[3] + theta[4:]) * size**0.5
        return scale, lengths, line / size, noise + 1e-6

    def _product(self, theta: Tensor) -> Tensor:
        """Kernel matrix [n, n] with constant and noise."""
        scale, lengths, line, noise = self._parts(theta)
        z = self.x / lengths
        norms = (z**2).sum(1)
        squares = (norms[:, None] + norms - 2 * z @ z.T).clamp(min=0)
        return (
            scale * torch.exp(-0.5 * squares)
            + line * self.x @ self.x.T
            + CONSTANT
            + torch.diag(noise * self.noise_shape)
        )


def squared_distances(first: Floats, second: Floats) -> Floats:
    """Squared distances [n, m] of rows."""
    norms = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return np.asarray(np.maximum(norms, 0))
