"""What LPNet sees of an architecture: features of each layer, computed from its channel counts.

Latency steps up where a layer's channels cross a multiple of the target's vector blocks, so each
layer is described by its channels *and* by what rounding them up to whole blocks adds, for several
sizes of block: the network learns which of them the target has. On ResNet-20 at multiples of 4 that
takes the held-out error from 5 % to 0.3 %. What a runtime's kernels make of single channel counts
beyond that is learned by hat functions that all layers share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from latency_service.core.arrays import Bools, Floats, Numbers
from latency_service.spaces.layers import Layer

#: Sizes of block, in channels [ours]. Vector units take 4 to 16 channels at once, and a cache line
#: has 64 bytes. A further size of 32 made the held-out errors larger on average.
BLOCKS = (4, 8, 16, 64)
#: Channel counts at which hat functions stand [ours]: multiples of 4 up to 64, then eight for each
#: doubling, up to 7680. A count between two of them belongs to both hats in part.
KNOTS = np.array(
    [*range(0, 64, 4), *(2**k + n * 2 ** (k - 3) for k in range(6, 13) for n in range(8))],
    dtype=np.float64,
)
KINDS = ("conv", "depthwise", "grouped", "transposed", "linear")


@dataclass(frozen=True, kw_only=True)
class LayerFeatures:
    """The features of the layers of one network, standardised over the architectures measured."""

    layers: Sequence[Layer]
    #: which of the raw features vary [R]; the others are left out
    used: Bools
    #: Channel counts at which hat functions stand, up to the widest layer's [K].
    knots: Floats
    #: [R]
    mean: Floats
    deviation: Floats

    @property
    def size(self) -> int:
        """Number of features F of a layer."""
        return int(self.used.sum())

    def of(self, layer: Layer, c_in: Floats, c_out: Floats) -> Floats:
        """Features [..., F] of `layer` at channel counts [...]."""
        return np.asarray(((_raw(layer, c_in, c_out) - self.mean) / self.deviation)[..., self.used])

    def at(self, widths: Numbers) -> Floats:
        """Features [N, L, F] of all layers at `widths` [N, G]."""
        at = widths.astype(np.float64)
        return np.stack(
            [self.of(layer, layer.c_in.at(at), layer.c_out.at(at)) for layer in self.layers], axis=1
        )

    def hats_of(self, c_in: Floats, c_out: Floats) -> Floats:
        """Hat functions [..., 2 K] of channel counts [...]: of the input, then of the output."""
        return np.concatenate([_hats(self.knots, c_in), _hats(self.knots, c_out)], axis=-1)

    def hats_at(self, widths: Numbers) -> Floats:
        """Hat functions [N, L, 2 K] of all layers at `widths` [N, G]."""
        at = widths.astype(np.float64)
        return np.stack(
            [self.hats_of(layer.c_in.at(at), layer.c_out.at(at)) for layer in self.layers], axis=1
        )

    def log_macs(self, widths: Numbers) -> Floats:
        """Logarithm of the multiply-accumulates [N, L] of all layers at `widths` [N, G]."""
        at = widths.astype(np.float64)
        return np.log(np.stack([layer.macs(at) for layer in self.layers], axis=1))


def build_layer_features(layers: Sequence[Layer], widths: Numbers) -> LayerFeatures:
    """The features of `layers`, standardised over all layers at `widths` [N, G]."""
    size = 2 * (1 + len(BLOCKS)) + 3 + len(KINDS)
    everything = LayerFeatures(
        layers=layers,
        used=np.ones(size, dtype=np.bool_),
        knots=_knots(layers, widths),
        mean=np.zeros(size),
        deviation=np.ones(size),
    )
    raw = everything.at(widths).reshape(-1, size)
    deviation = raw.std(0)
    used = deviation > 1e-6
    return replace(
        everything,
        used=used,
        mean=raw.mean(0),
        deviation=np.where(used, deviation, 1.0),
    )


def _raw(layer: Layer, c_in: Floats, c_out: Floats) -> Floats:
    """Features [..., R] at channel counts [...]."""
    columns = [
        column for channels in (c_in, c_out) for column in (np.log(channels), *_excesses(channels))
    ]
    constants = [np.log(layer.pixels_out), np.log(layer.taps), np.log(layer.stride)]
    constants += [float(layer.kind == kind) for kind in KINDS]
    return np.stack([*columns, *(np.full_like(c_in, value) for value in constants)], axis=-1)


def _excesses(channels: Floats) -> list[Floats]:
    """log(channels rounded up to whole blocks / channels) [...] by block; counts are whole but for
    rounding errors.
    """
    return [np.log(np.ceil(channels / block - 1e-9) * block / channels) for block in BLOCKS]


def _knots(layers: Sequence[Layer], widths: Numbers) -> Floats:
    """Those of `KNOTS` that the layers' channels at `widths` [N, G] lie between."""
    at = widths.astype(np.float64)
    widest = max(float(c.at(at).max()) for layer in layers for c in (layer.c_in, layer.c_out))
    return KNOTS[: max(2, int(np.searchsorted(KNOTS, widest)) + 1)]


def _hats(knots: Floats, channels: Floats) -> Floats:
    """Hat functions [..., K] of channel counts [...]: linear between the knots, constant beyond."""
    upper = np.clip(np.searchsorted(knots, channels), 1, len(knots) - 1)
    share = np.clip((channels - knots[upper - 1]) / (knots[upper] - knots[upper - 1]), 0, 1)
    hats = np.zeros((*channels.shape, len(knots)))
    np.put_along_axis(hats, (upper - 1)[..., None], (1 - share)[..., None], -1)
    np.put_along_axis(hats, upper[..., None], share[..., None], -1)
    return hats
