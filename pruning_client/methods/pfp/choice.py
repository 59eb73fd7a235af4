"""The channels that each mode keeps, and the factors of the weights that read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from latency_service.core.arrays import Bools, Floats, Ints
from pruning_client.methods.pfp.sampling import draw, draws_for
from pruning_client.methods.pfp.sensitivity import TINY

Mode = Literal["deterministic", "random", "mixed"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Channels kept of one group."""

    #: Channels [C] from the one to keep first to the one to remove first.
    order: Ints
    #: Factor of the weights that read each channel [C]; 1 for channels that are not kept.
    factors: Floats


def probabilities(sensitivity: Floats) -> Floats:
    """Probabilities [C] of the channels' draws; zero for those next to zero, as in the public code.

    A group without any sensitivity has equal ones.
    """
    total = float(sensitivity.sum())
    if total <= TINY:
        return np.full(len(sensitivity), 1 / len(sensitivity))
    p = sensitivity / total
    p = np.where(p > TINY, p, 0.0)
    return np.asarray(p / p.sum())


def choose(sensitivity: Floats, width: int, mode: Mode, generator: np.random.Generator) -> Choice:
    """Choose the channels of a group to keep.

    * ``deterministic``: those of highest sensitivity.
    * ``random``: draws by sensitivity until `width` channels are distinct; the weights that read a
      channel are multiplied by its multiplicity / (draws x probability).
    * ``mixed``: of m draws with `width` distinct channels on average, channels with p >= 1 / m are
      kept without drawing, the others are drawn from the rest, as in the public code.

    Args:
        sensitivity: Sensitivity of each channel [C].
    """
    by_value = np.argsort(-sensitivity, kind="stable")
    factors = np.ones(len(sensitivity))
    p = probabilities(sensitivity)
    count = draws_for(p, width)
    if mode == "deterministic" or not math.isfinite(count):
        return Choice(order=by_value, factors=factors)
    certain = np.zeros(len(p), bool)
    if mode == "mixed":
        certain[by_value[:width]] = p[by_value[:width]] >= 1 / count
    drawn = _draw(np.where(certain, 0.0, p), width - int(certain.sum()), factors, generator)
    return Choice(order=_kept_first(by_value, certain | drawn), factors=factors)


def _draw(p: Floats, distinct: int, factors: Floats, generator: np.random.Generator) -> Bools:
    """Draw so many distinct channels, write their factors, and return which they are [C]."""
    if distinct < 1:
        return np.zeros(len(p), bool)
    p = p / p.sum()
    multiplicity = draw(p, distinct, generator)
    drawn = multiplicity > 0
    factors[drawn] = multiplicity[drawn] / (multiplicity.sum() * p[drawn])
    return drawn


def _kept_first(order: Ints, kept: Bools) -> Ints:
    return np.concatenate([order[kept[order]], order[~kept[order]]])
