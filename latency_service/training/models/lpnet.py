"""LPNet, structured: a sum over layers of one small network that they share.

    latency(w) = exp(o) + sum_l exp(log macs_l(w) + b + d_l + a . x_l(w) + v . tanh(x_l(w) W + c))

with x_l the features of layer l, d_l a small deviation of that layer alone, and o what a run costs
whatever its widths. The paper's LPNet (see `mlp`) is a plain network over the width vector; this
form is ours.

It is fitted by Levenberg-Marquardt steps on the error of log latency, with the strengths of its
priors and of the noise re-estimated from the evidence (MacKay 1992; Foresee and Hagan 1997): at a
hundred measurements it needs no tuning and no early stopping. Members of an ensemble, and
cross-validation folds, are fitted as one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latency_service.core.arrays import Floats, Numbers
from latency_service.training.models.block_features import BlockFeatures
from latency_service.training.models.layer_features import LayerFeatures

HIDDEN = 8
ITERATIONS = 50
#: The evidence is not re-estimated before the fit is near its optimum, and not at every step.
EVIDENCE_FROM = 10
EVIDENCE_EVERY = 3
#: Relative noise below which no measurement is believed.
LEAST_NOISE = 1e-3
#: Share of a measurement's variance that others leave, at least: one that alone determines its
#: prediction says nothing.
LEAST_LEFT = 1e-3
#: Degrees of freedom of the noise (Student's t): a disturbed measurement must not bend the network.
TAILS = 4.0
#: Strengths of the priors to begin with, in the order of `Parameters`.
FROM_NOTHING = (4.0, 1.0, 1.0, 4.0, 100.0, 1e-2, 1.0)
NEAR_SOURCE = (400.0, 400.0, 400.0, 400.0, 100.0, 1e-2, 4.0)
#: Pseudo-observations behind the first strengths and behind the first noise: few, but near a source
#: many, or ten measurements would be fitted exactly.
DOUBT = (1e-2, 0.0)
NEAR_DOUBT = (30.0, 4.0)
FIRST_NOISE = 0.03


class Parameters(NamedTuple):
    """Of M networks: a [M, F], W [M, F, H], c [M, H], v [M, H], d [M, L], b [M, 1] and o [M, 1] of
    the formula.
    """

    linear: Tensor
    weights: Tensor
    shifts: Tensor
    outputs: Tensor
    layers: Tensor
    scale: Tensor
    overhead: Tensor


@dataclass(frozen=True, kw_only=True)
class LPNet:
    """A fitted ensemble; its latency is the mean over its members, in ms."""

    features: LayerFeatures | BlockFeatures
    parameters: Parameters
    #: by how much each measurement given [N] is expected to be missed, in log latency, by a fit
    #: that does not see it
    unseen_deviation: Floats

    @property
    def overhead(self) -> float:
        """What a run costs whatever the widths, ms."""
        return float(torch.exp(self.parameters.overhead).mean())

    def layer_time(self, number: int, c_in: Floats, c_out: Floats, depth: Floats) -> Floats:
        """Latency [...] in ms of layer `number` at channel counts [...]; of a network given by its
        graph only.
        """
        assert isinstance(self.features, LayerFeatures)
        layer = self.features.layers[number]
        features = torch.as_tensor(self.features.of(layer, c_in, c_out)).reshape(
            -1, 1, self.features.size
        )
        log_macs = torch.as_tensor(np.log(layer.macs_of(c_out, depth))).reshape(-1, 1)
        p = self.parameters._replace(layers=self.parameters.layers[:, number : number + 1])
        log_times, _ = _log_times(p, features, log_macs)
        return np.asarray(torch.exp(log_times).mean(0).reshape(c_in.shape).numpy())

    def log_latency(self, widths: Numbers) -> Floats:
        """Logarithm of the latency [N] of `widths` [N, G]."""
        features = torch.as_tensor(self.features.at(widths))
        state = _forward(self.parameters, features, torch.as_tensor(self.features.log_macs(widths)))
        return np.asarray(torch.log(torch.exp(state.log_latency).mean(0)).numpy())


def fit_lpnets(
    features: LayerFeatures | BlockFeatures,
    widths: Numbers,
    latency_ms: Floats,
    weights: Floats,
    *,
    members: int,
    seed: int,
    source: LPNet | None = None,
    nearness: float = 1.0,
    progress: Callable[[float], None] | None = None,
) -> list[LPNet]:
    """One ensemble of `members` networks for each row of `weights` [K, N]: the weight of each
    measurement, 0 unseen.

    Args:
        widths: [N, G].
        latency_ms: [N].
        source: of another target, with the same features and as many members: what is learned is
            how far this target is from it, and the fewer the measurements, the nearer it stays.
        nearness: to the source, as a factor of the strengths of `NEAR_SOURCE`, level and overhead
            apart.
        progress: told the share that is done, at each step.
    """
    data = _Data(
        features=torch.as_tensor(features.at(widths)),
        log_macs=torch.as_tensor(features.log_macs(widths)),
        log_latency=torch.as_tensor(np.log(latency_ms)),
        weights=torch.as_tensor(np.repeat(weights, members, axis=0)),
    )
    with torch.no_grad():
        start = _start(data, members, seed, source)
        fitted, variance = _fit(
            data, start, _strengths(nearness) if source else None, progress or (lambda _: None)
        )
    return [
        LPNet(
            features=features,
            parameters=Parameters(*(part[own] for part in fitted)),
            unseen_deviation=np.asarray(variance[own].mean(0).sqrt().numpy()),
        )
        for own in (slice(k * members, (k + 1) * members) for k in range(len(weights)))
    ]


def _strengths(nearness: float) -> tuple[float, ...]:
    """Of the priors about a source, in the order of `Parameters`."""
    *shape, scale, overhead = NEAR_SOURCE
    return (*(nearness * strength for strength in shape), scale, overhead)


class _Data(NamedTuple):
    features: Tensor
    log_macs: Tensor
    log_latency: Tensor
    weights: Tensor


class _State(NamedTuple):
    """Of M networks: log latency [M, N], each layer's share of it [M, N, L], hidden units [M, N, L,
    H].
    """

    log_latency: Tensor
    shares: Tensor
    hidden: Tensor


def _start(data: _Data, members: int, seed: int, source: LPNet | None) -> Parameters:
    """The source, its level brought to this target's; without one, latency proportional to MACs,
    and small random networks, the same ones for every row of weights.
    """
    if source is not None:
        return _levelled(data, source)
    rng = np.random.default_rng(seed)
    count, (_, layers, features) = len(data.weights), data.features.shape
    repeat = count // members

    def normal(*shape: int, deviation: float) -> Tensor:
        return torch.as_tensor(
            np.tile(
                rng.standard_normal((members, *shape)) * deviation, (repeat,) + (1,) * len(shape)
            )
        )

    unseen = data.weights == 0
    per_mac = (data.log_latency - torch.logsumexp(data.log_macs, 1)).expand(count, -1)
    lowest = torch.where(unseen, torch.inf, data.log_latency).amin(1, keepdim=True)
    return Parameters(
        linear=torch.zeros(count, features, dtype=torch.float64),
        weights=normal(features, HIDDEN, deviation=features**-0.5),
        shifts=normal(HIDDEN, deviation=0.5),
        outputs=normal(HIDDEN, deviation=0.1),
        layers=torch.zeros(count, layers, dtype=torch.float64),
        scale=torch.where(unseen, torch.nan, per_mac).nanmedian(1, keepdim=True).values,
        overhead=lowest + np.log(0.05),
    )


def _levelled(data: _Data, source: LPNet) -> Parameters:
    repeat = len(data.weights) // len(source.parameters.scale)
    p = Parameters(*(part.repeat(repeat, *(1,) * (part.dim() - 1)) for part in source.parameters))
    off = data.log_latency - _forward(p, data.features, data.log_macs).log_latency
    level = torch.where(data.weights == 0, torch.nan, off).nanmedian(1, keepdim=True).values
    return p._replace(scale=p.scale + level, overhead=p.overhead + level)


def _log_times(p: Parameters, features: Tensor, log_macs: Tensor) -> tuple[Tensor, Tensor]:
    """Log latency of each layer [M, N, L] and the hidden units [M, N, L, H], by features [N,
    L, F].
    """
    samples, layers, size = features.shape
    flat = features.reshape(samples * layers, size)
    hidden = torch.tanh(flat @ p.weights + p.shifts[:, None]).reshape(
        -1, samples, layers, p.weights.shape[2]
    )
    shared = (flat @ p.linear[..., None]).reshape(-1, samples, layers)
    shared = shared + (hidden @ p.outputs[:, None, :, None])[..., 0]
    return shared + log_macs + p.layers[:, None] + p.scale[..., None], hidden


def _forward(p: Parameters, features: Tensor, log_macs: Tensor) -> _State:
    log_times, hidden = _log_times(p, features, log_macs)
    log_latency = torch.logaddexp(torch.logsumexp(log_times, -1), p.overhead)
    shares = torch.exp(log_times - log_latency[..., None])
    return _State(log_latency=log_latency, shares=shares, hidden=hidden)


def _jacobian(p: Parameters, features: Tensor, state: _State) -> Tensor:
    """d log latency / d parameters [M, N, P], parameters in the order of `Parameters`."""
    log_latency, shares, hidden = state
    members, samples = log_latency.shape
    slopes = shares[..., None] * p.outputs[:, None, None] * (1 - hidden**2)
    parts = (
        torch.einsum("mnl,nlf->mnf", shares, features),
        (features.transpose(1, 2) @ slopes).reshape(members, samples, -1),
        slopes.sum(2),
        (shares[..., None, :] @ hidden)[..., 0, :],
        shares,
        shares.sum(2, keepdim=True),
        torch.exp(p.overhead - log_latency)[..., None],
    )
    return torch.cat(parts, dim=2)


def _fit(
    data: _Data, start: Parameters, near: Sequence[float] | None, progress: Callable[[float], None]
) -> tuple[Parameters, Tensor]:
    """Fitted networks, and the variance [M, N] that is expected of each measurement's error where
    it is not seen.
    """
    priors = _Priors(start, data, near)
    theta = _flatten(start)
    centre = theta * priors.centred
    damping = torch.full((len(theta), 1), 1e-1, dtype=torch.float64)
    state = _forward(start, data.features, data.log_macs)
    for iteration in range(ITERATIONS):
        jacobian = _jacobian(_unflatten(theta, start), data.features, state)
        residual = data.log_latency - state.log_latency
        curvature, slope = priors.normal_equations(jacobian, residual, theta - centre, data.weights)
        tried, solved = _step(theta, curvature, slope, damping)
        after = _forward(_unflatten(tried, start), data.features, data.log_macs)
        loss = priors.loss(residual, theta - centre, data.weights)
        better = solved & (
            priors.loss(data.log_latency - after.log_latency, tried - centre, data.weights) < loss
        )
        theta = _choose(better, tried, theta)
        state = _State(*(_choose(better, new, old) for new, old in zip(after, state, strict=True)))
        damping = torch.where(better[:, None], damping * 0.3, damping * 5).clamp(1e-6, 1e6)
        if iteration >= EVIDENCE_FROM and iteration % EVIDENCE_EVERY == 0:
            priors.update(
                curvature, data.log_latency - state.log_latency, theta - centre, data.weights
            )
        progress((iteration + 1) / ITERATIONS)
    fitted = _unflatten(theta, start)
    return fitted, priors.unseen_variance(_jacobian(fitted, data.features, state), data.weights)


def _step(
    theta: Tensor, curvature: Tensor, slope: Tensor, damping: Tensor
) -> tuple[Tensor, Tensor]:
    """A Levenberg-Marquardt step from `theta` [M, P], and for which networks it could be solved
    [M].
    """
    damped = curvature + torch.diag_embed(damping * torch.diagonal(curvature, dim1=1, dim2=2))
    factor, failed = torch.linalg.cholesky_ex(damped)
    return theta + torch.cholesky_solve(slope[..., None], factor)[..., 0], failed == 0


def _choose(better: Tensor, after: Tensor, before: Tensor) -> Tensor:
    return torch.where(better.reshape(-1, *(1,) * (after.dim() - 1)), after, before)


class _Priors:
    """Gaussian priors by kind of parameter, and the noise: strengths (inverse variances) found by
    the evidence.
    """

    def __init__(self, start: Parameters, data: _Data, near: Sequence[float] | None) -> None:
        """`near`: strengths to begin with where `start` is another target's network."""
        members = len(data.weights)
        transferred = near is not None
        sizes = [int(part[0].numel()) for part in start]
        self.slices = [
            slice(end - size, end)
            for size, end in zip(sizes, np.cumsum(sizes).tolist(), strict=True)
        ]
        first = near or FROM_NOTHING
        self.doubt = NEAR_DOUBT if transferred else DOUBT
        self.strengths = torch.cat(
            [torch.full((members, n), s) for n, s in zip(sizes, first, strict=True)], 1
        )
        self.strengths = self.strengths.double()
        self._first = self.strengths.clone()
        #: inverse variance of the noise [M, 1]
        self.precision = torch.full((members, 1), 1 / FIRST_NOISE**2, dtype=torch.float64)
        #: how far each measurement is believed [M, N]
        self.trust = torch.ones_like(data.weights)
        #: scale and overhead have their starting values as the centre of their priors, all else
        #: zero unless transferred
        self.centred = torch.full((sum(sizes),), float(transferred), dtype=torch.float64)
        self.centred[self.slices[-2].start :] = 1.0

    def normal_equations(
        self, jacobian: Tensor, residual: Tensor, theta: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gauss-Newton curvature [M, P, P] of the negative log posterior, and its downhill slope
        [M, P].
        """
        weighted, curvature = self._weighted(jacobian, weights)
        return curvature, (weighted @ residual[..., None])[..., 0] - self.strengths * theta

    def unseen_variance(self, jacobian: Tensor, weights: Tensor) -> Tensor:
        """Of each measurement [M, N] about the prediction of a fit without it, squared log latency:
        Laplace's approximation of the posterior (MacKay 1992), from which one measurement's share
        is taken away in closed form (Sherman and Morrison 1950), and the noise.
        """
        factor, _ = torch.linalg.cholesky_ex(self._weighted(jacobian, weights)[1])
        solved = torch.cholesky_solve(jacobian.transpose(1, 2), factor)
        variance = (jacobian.transpose(1, 2) * solved).sum(1)
        left = (1 - self._believed(weights) * variance).clamp(min=LEAST_LEFT)
        unseen: Tensor = variance / left + 1 / self.precision
        return unseen

    def _weighted(self, jacobian: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The Jacobian by how far each measurement is believed [M, P, N], and the curvature [M, P,
        P].
        """
        weighted = (jacobian * self._believed(weights)[..., None]).transpose(1, 2)
        return weighted, weighted @ jacobian + torch.diag_embed(self.strengths)

    def _believed(self, weights: Tensor) -> Tensor:
        return self.precision * self.trust * weights

    def loss(self, residual: Tensor, theta: Tensor, weights: Tensor) -> Tensor:
        """Negative log posterior [M] up to a constant."""
        fit = (self._believed(weights) * residual**2).sum(1)
        return 0.5 * (fit + (self.strengths * theta**2).sum(1))

    def update(self, curvature: Tensor, residual: Tensor, theta: Tensor, weights: Tensor) -> None:
        """Re-estimate strengths and noise from the number of well-determined parameters, then the
        trust.
        """
        factor, failed = torch.linalg.cholesky_ex(curvature)
        if bool(failed.any()):
            return
        variances = torch.diagonal(torch.cholesky_inverse(factor), dim1=1, dim2=2)
        effective = torch.zeros_like(self.precision)
        prior, noise_prior = self.doubt
        for part in self.slices[:-2]:
            strength = self.strengths[:, part]
            determined = (1 - strength * variances[:, part]).clamp(0, 1).sum(1, keepdim=True)
            effective += determined
            energy = (theta[:, part] ** 2).sum(1, keepdim=True)
            believed = self._first[:, part][:, :1] if noise_prior else strength[:, :1]
            self.strengths[:, part] = ((determined + prior) / (energy + prior / believed)).clamp(
                1e-3, 1e6
            )
        count = (weights > 0).sum(1, keepdim=True)
        share = self.trust * weights
        error = (share * residual**2).sum(1, keepdim=True) / weights.sum(1, keepdim=True) * count
        free = (count - effective - 2).clamp(min=1) + 2
        doubted = noise_prior * FIRST_NOISE**2
        self.precision = (free + noise_prior) / (error + 2 * LEAST_NOISE**2 + doubted)
        self.trust = (TAILS + 1) / (TAILS + self.precision * weights * residual**2)


def _flatten(p: Parameters) -> Tensor:
    return torch.cat([part.reshape(len(part), -1) for part in p], dim=1)


def _unflatten(theta: Tensor, like: Parameters) -> Parameters:
    sizes = [int(part[0].numel()) for part in like]
    parts: Sequence[Tensor] = torch.split(theta, sizes, dim=1)
    return Parameters(*(part.reshape(of.shape) for part, of in zip(parts, like, strict=True)))
