"""LPNet's formula and its derivatives, for M networks at once.

    latency(w) = exp(o) + sum_l exp(
        log macs_l(w) + b + d_l + a . x_l(w) + r . h_l(w) + v . tanh(x_l(w) W + c))

x_l are the features of layer l, h_l hat functions of its channel counts, d_l is a small deviation
of that layer alone, and o is the logarithm of the overhead of a run, which does not depend on the
widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Parameters(NamedTuple):
    """Parameters of M networks, by their letters in the formula: a [M, F], W [M, F, H], c [M, H],
    v [M, H], d [M, L], r [M, S], b [M, 1] and o [M, 1].
    """

    linear: Tensor
    weights: Tensor
    shifts: Tensor
    outputs: Tensor
    layers: Tensor
    hats: Tensor
    scale: Tensor
    overhead: Tensor

    def sizes(self) -> list[int]:
        """Number of values of each kind of parameter in one network."""
        return [int(part[0].numel()) for part in self]


class Inputs(NamedTuple):
    """What the networks see of N architectures: features [N, L, F], hat functions [N, L, S] and
    logarithms of multiply-accumulates [N, L].
    """

    features: Tensor
    hats: Tensor
    log_macs: Tensor


class Prediction(NamedTuple):
    """Log latency [M, N] of M networks, the share of each layer in the latency [M, N, L], and the
    hidden units [M, N, L, H].
    """

    log_latency: Tensor
    shares: Tensor
    hidden: Tensor


def log_times(p: Parameters, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Log latency of each layer [M, N, L] and the hidden units [M, N, L, H]."""
    samples, layers, size = inputs.features.shape
    flat = inputs.features.reshape(samples * layers, size)
    hidden = torch.tanh(flat @ p.weights + p.shifts[:, None]).reshape(
        -1, samples, layers, p.weights.shape[2]
    )
    shared = (flat @ p.linear[..., None]).reshape(-1, samples, layers)
    shared = shared + (hidden @ p.outputs[:, None, :, None])[..., 0]
    shared = shared + torch.einsum("nls,ms->mnl", inputs.hats, p.hats)
    return shared + inputs.log_macs + p.layers[:, None] + p.scale[..., None], hidden


def forward(p: Parameters, inputs: Inputs) -> Prediction:
    """Predictions for all architectures."""
    times, hidden = log_times(p, inputs)
    log_latency = torch.logaddexp(torch.logsumexp(times, -1), p.overhead)
    shares = torch.exp(times - log_latency[..., None])
    return Prediction(log_latency=log_latency, shares=shares, hidden=hidden)


def jacobian(p: Parameters, inputs: Inputs, at: Prediction) -> Tensor:
    """d log latency / d parameters [M, N, P], parameters in the order of `Parameters`."""
    log_latency, shares, hidden = at
    members, samples = log_latency.shape
    features = inputs.features
    slopes = shares[..., None] * p.outputs[:, None, None] * (1 - hidden**2)
    parts = (
        torch.einsum("mnl,nlf->mnf", shares, features),
        (features.transpose(1, 2) @ slopes).reshape(members, samples, -1),
        slopes.sum(2),
        (shares[..., None, :] @ hidden)[..., 0, :],
        shares,
        torch.einsum("mnl,nls->mns", shares, inputs.hats),
        shares.sum(2, keepdim=True),
        torch.exp(p.overhead - log_latency)[..., None],
    )
    return torch.cat(parts, dim=2)


def flatten(p: Parameters) -> Tensor:
    """All parameters of each network in one row [M, P]."""
    return torch.cat([part.reshape(len(part), -1) for part in p], dim=1)


def unflatten(theta: Tensor, like: Parameters) -> Parameters:
    """The inverse of `flatten`, with the shapes of `like`."""
    parts: Sequence[Tensor] = torch.split(theta, like.sizes(), dim=1)
    return Parameters(*(part.reshape(of.shape) for part, of in zip(parts, like, strict=True)))
