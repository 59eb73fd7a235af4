"""LPNet, structured: a sum over layers of one small network, and of hat functions of the channels,
that they share.

The formula is in `lpnet_network`, the fit in `lpnet_fit`. The paper's LPNet (see `mlp`) is a plain
network of the width vector; this form is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latency_service.core.arrays import Floats, Numbers
from latency_service.training.models.block_features import BlockFeatures
from latency_service.training.models.layer_features import LayerFeatures
from latency_service.training.models.lpnet_fit import Data, fit
from latency_service.training.models.lpnet_network import Inputs, Parameters, forward, log_times

HIDDEN = 8
#: Initial strengths of the priors about a source, in the order of `Parameters`.
NEAR_SOURCE = (400.0, 400.0, 400.0, 400.0, 100.0, 1000.0, 1e-2, 4.0)
#: Number of channel counts whose features are in memory at once: tables have millions.
AT_ONCE = 1 << 16
#: Initial overhead as a share of the lowest measured latency.
FIRST_OVERHEAD = 0.05


@dataclass(frozen=True, kw_only=True)
class LPNet:
    """A fitted ensemble; its latency is the mean over its members, in ms."""

    features: LayerFeatures | BlockFeatures
    parameters: Parameters
    #: Expected deviation of each measurement [N] from a fit without it, in log latency.
    unseen_deviation: Floats

    @property
    def overhead(self) -> float:
        """Part of the latency that does not depend on the widths, ms."""
        return float(torch.exp(self.parameters.overhead).mean())

    def layer_time(self, number: int, c_in: Floats, c_out: Floats, depth: Floats) -> Floats:
        """Latency [...] in ms of layer `number` at channel counts [...]; only for a network that is
        given by its graph.
        """
        assert isinstance(self.features, LayerFeatures)
        features = self.features
        layer = features.layers[number]
        p = self.parameters._replace(layers=self.parameters.layers[:, number : number + 1])
        times = np.empty(c_in.size)
        for first in range(0, c_in.size, AT_ONCE):
            part = slice(first, first + AT_ONCE)
            counts = (c_in.ravel()[part], c_out.ravel()[part])
            log_macs = np.log(layer.macs_of(counts[1], depth.ravel()[part]))
            inputs = Inputs(
                features=torch.as_tensor(features.of(layer, *counts))[:, None],
                hats=torch.as_tensor(features.hats_of(*counts))[:, None],
                log_macs=torch.as_tensor(log_macs)[:, None],
            )
            times[part] = torch.exp(log_times(p, inputs)[0]).mean(0)[:, 0].numpy()
        return times.reshape(c_in.shape)

    def log_latency(self, widths: Numbers) -> Floats:
        """Logarithm of the latency [N] of `widths` [N, G]."""
        each = forward(self.parameters, _inputs(self.features, widths)).log_latency
        return np.asarray(torch.log(torch.exp(each).mean(0)).numpy())


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
    measurement, 0 for held-out ones.

    Args:
        widths: [N, G].
        latency_ms: [N].
        source: ensemble of another target, with the same features and as many members. The fit
            learns how this target differs from it; the fewer the measurements, the closer it stays.
        nearness: factor of the strengths in `NEAR_SOURCE`, except those of level and overhead.
        progress: receives the finished share after each step.
    """
    data = Data(
        inputs=_inputs(features, widths),
        log_latency=torch.as_tensor(np.log(latency_ms)),
        weights=torch.as_tensor(np.repeat(weights, members, axis=0)),
    )
    near = None if source is None else _strengths(nearness)
    with torch.no_grad():
        start = _start(data, members, seed) if source is None else _levelled(data, source)
        fitted, variance = fit(data, start, near, progress or (lambda _: None))
    return _ensembles(features, fitted, variance, members)


def _inputs(features: LayerFeatures | BlockFeatures, widths: Numbers) -> Inputs:
    return Inputs(
        features=torch.as_tensor(features.at(widths)),
        hats=torch.as_tensor(features.hats_at(widths)),
        log_macs=torch.as_tensor(features.log_macs(widths)),
    )


def _ensembles(
    features: LayerFeatures | BlockFeatures, fitted: Parameters, variance: Tensor, members: int
) -> list[LPNet]:
    """Consecutive groups of `members` networks."""
    return [
        LPNet(
            features=features,
            parameters=Parameters(*(part[first : first + members] for part in fitted)),
            unseen_deviation=np.asarray(variance[first : first + members].mean(0).sqrt().numpy()),
        )
        for first in range(0, len(variance), members)
    ]


def _strengths(nearness: float) -> tuple[float, ...]:
    """Initial strengths of the priors about a source, in the order of `Parameters`."""
    *shape, scale, overhead = NEAR_SOURCE
    return (*(nearness * strength for strength in shape), scale, overhead)


def _start(data: Data, members: int, seed: int) -> Parameters:
    """Latency proportional to MACs plus small random networks, the same ones for every row of
    weights.
    """
    rng = np.random.default_rng(seed)
    count, (_, layers, features) = len(data.weights), data.inputs.features.shape

    def normal(*shape: int, deviation: float) -> Tensor:
        drawn = rng.standard_normal((members, *shape)) * deviation
        return torch.as_tensor(np.tile(drawn, (count // members,) + (1,) * len(shape)))

    return Parameters(
        linear=torch.zeros(count, features, dtype=torch.float64),
        weights=normal(features, HIDDEN, deviation=features**-0.5),
        shifts=normal(HIDDEN, deviation=0.5),
        outputs=normal(HIDDEN, deviation=0.1),
        layers=torch.zeros(count, layers, dtype=torch.float64),
        hats=torch.zeros(count, data.inputs.hats.shape[2], dtype=torch.float64),
        scale=_level(data, data.log_latency - torch.logsumexp(data.inputs.log_macs, 1)),
        overhead=_lowest(data) + np.log(FIRST_OVERHEAD),
    )


def _levelled(data: Data, source: LPNet) -> Parameters:
    """The source's networks, shifted to the latency level of this target."""
    repeat = len(data.weights) // len(source.parameters.scale)
    p = Parameters(*(part.repeat(repeat, *(1,) * (part.dim() - 1)) for part in source.parameters))
    level = _level(data, data.residual(data.predict(p)))
    return p._replace(scale=p.scale + level, overhead=p.overhead + level)


def _level(data: Data, log_ratio: Tensor) -> Tensor:
    """Median [M, 1] of `log_ratio` ([N] or [M, N]) over the measurements that each network sees."""
    seen = torch.where(data.weights == 0, torch.nan, log_ratio)
    return seen.nanmedian(1, keepdim=True).values


def _lowest(data: Data) -> Tensor:
    """Lowest log latency [M, 1] of the measurements that each network sees."""
    return torch.where(data.weights == 0, torch.inf, data.log_latency).amin(1, keepdim=True)
