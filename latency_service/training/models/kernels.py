"""Kernel models of plain vectors: ridge by leave-one-out errors, a Gaussian process by its
evidence.

Both have the kernel ``s exp(-|f - f'|^2 / 2) + w f.f' + const`` over the features f of `parts`,
with lengths folded into f: a bent surface on top of a line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from latency_service.core.arrays import Floats, Numbers
from latency_service.training.models.block_features import BlockFeatures

#: Measurements that the kernel's own parameters are chosen on.
MOST_TUNED_ON = 400
#: Variance of the constant: latencies are centred, so it is never far from 0.
CONSTANT = 10.0
LENGTHS = (0.6, 1.0, 1.8, 3.2, 5.6)
LINES = (0.03, 0.3, 3.0, 30.0)
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
        bent = np.exp(-0.5 * _squares(f / self.lengths, self.centres)) @ self.alpha
        return np.asarray(self.mean + f @ self.linear + bent)


@dataclass(frozen=True, kw_only=True)
class _Kernel:
    scale: float
    #: [F]
    lengths: Floats
    line: float
    noise: float


def fit_kernel_line(
    features: BlockFeatures,
    vectors: Numbers,
    latency_ms: Floats,
    weights: Floats,
    *,
    evidence: bool,
    seed: int,
) -> KernelLine:
    """Kernel ridge, or a Gaussian process whose kernel has the greatest `evidence`; `weights` [N],
    0 unseen.
    """
    seen = np.flatnonzero(weights)
    f = features.at(vectors[seen])[:, 0]
    target = np.log(latency_ms[seen])
    mean = float(np.average(target, weights=weights[seen]))
    tuned = np.sort(np.random.default_rng(seed).permutation(len(seen))[:MOST_TUNED_ON])
    choose: Callable[[Floats, Floats, Floats], _Kernel] = (
        _by_evidence if evidence else _by_leaving_out
    )
    kernel = choose(f[tuned], target[tuned] - mean, weights[seen][tuned])
    product = (
        kernel.scale * np.exp(-0.5 * _squares(f / kernel.lengths, f / kernel.lengths))
        + kernel.line * f @ f.T
    )
    alpha = np.linalg.solve(
        product + CONSTANT + np.diag(kernel.noise / weights[seen]), target - mean
    )
    return KernelLine(
        features=features,
        mean=mean + CONSTANT * float(alpha.sum()),
        linear=kernel.line * f.T @ alpha,
        lengths=kernel.lengths,
        centres=f / kernel.lengths,
        alpha=np.asarray(kernel.scale * alpha),
    )


def _by_leaving_out(f: Floats, target: Floats, weights: Floats) -> _Kernel:
    """The kernel with the least mean absolute leave-one-out error, in closed form from one
    decomposition.
    """
    size = f.shape[1]
    root = np.sqrt(weights)
    squares = _squares(f, f)
    products = f @ f.T / size
    best = None
    least = np.inf
    for length in LENGTHS:
        bent = np.exp(-0.5 * squares / (size * length**2))
        for line in LINES:
            values, vectors = np.linalg.eigh(
                root[:, None] * (bent + line * products + CONSTANT) * root
            )
            turned = vectors.T @ (root * target)
            for noise in NOISES:
                inverse = 1 / (np.maximum(values, 0) + noise)
                left_out = (vectors @ (inverse * turned)) / (vectors**2 @ inverse) / root
                error = float(np.average(np.abs(left_out), weights=weights))
                if error < least:
                    lengths = np.full(size, length * np.sqrt(size))
                    best = _Kernel(scale=1.0, lengths=lengths, line=line / size, noise=noise)
                    least = error
    assert best is not None
    return best


def _by_evidence(f: Floats, target: Floats, weights: Floats) -> _Kernel:
    """A length for each feature about a common one (log-normal prior), by the marginal
    likelihood.
    """
    size = f.shape[1]
    deviation = max(float(target.std()), 1e-6)
    x, y, noise_shape = (torch.as_tensor(part) for part in (f, target / deviation, 1 / weights))

    def parts(theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scale, line, noise = torch.exp(theta[:3])
        return scale, torch.exp(theta[3] + theta[4:]) * size**0.5, line / size, noise + 1e-6

    def objective(start: Floats) -> tuple[float, Floats]:
        theta = torch.tensor(start, requires_grad=True)
        scale, lengths, line, noise = parts(theta)
        z = x / lengths
        norms = (z**2).sum(1)
        squares = (norms[:, None] + norms - 2 * z @ z.T).clamp(min=0)
        product = (
            scale * torch.exp(-0.5 * squares)
            + line * x @ x.T
            + CONSTANT
            + torch.diag(noise * noise_shape)
        )
        factor = torch.linalg.cholesky(product)
        solved = torch.linalg.solve_triangular(factor, y[:, None], upper=False)
        prior = (theta[4:] ** 2).sum() / 2 + ((theta[:4] - start_at) ** 2).sum() / 32
        loss = 0.5 * (solved**2).sum() + torch.log(torch.diagonal(factor)).sum() + prior
        loss.backward()
        assert theta.grad is not None
        return float(loss.detach()), theta.grad.numpy()

    start_at = torch.tensor([0.0, 0.0, -5.0, 0.5], dtype=torch.float64)
    first = np.concatenate([start_at.numpy(), np.zeros(size)])
    bounds = [(-9, 9), (-9, 9), (-14, 1), (-2, 4), *[(-2.0, 4.0)] * size]
    found = minimize(
        objective, first, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": 40}
    )
    scale, lengths, line, noise = (part.numpy() for part in parts(torch.as_tensor(found.x)))
    square = deviation**2
    return _Kernel(
        scale=float(scale) * square,
        lengths=lengths,
        line=float(line) * square,
        noise=float(noise) * square,
    )


def _squares(first: Floats, second: Floats) -> Floats:
    """Squared distances [n, m] of rows."""
    norms = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return np.asarray(np.maximum(norms, 0))
