"""Figures of the papers, shown beside a contest and never mixed with its own.

Only figures that were read in the authors' public code, or that another paper quotes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published figure of a method."""

    #: Name of the method here.
    method: str
    network: str
    figure: str
    source: str
    #: What is otherwise than in a contest.
    differs: str


_FLOPS = "budget in FLOPs, not latency; full training"
_PARAMETERS = "budget in parameters and FLOPs, not latency; full training"
_SCOP = "Tang et al., NeurIPS 2020, arXiv 2010.10732"
_META = "Liu et al., ICCV 2019, arXiv 1903.10258"
_PFP = "Liebenwein et al., ICLR 2020, arXiv 1911.07412"

PUBLISHED: tuple[Published, ...] = (
    Published(
        method="scop",
        network="ResNet-50, ImageNet",
        figure="error 23.85 to 24.05 % at -45.3 % FLOPs",
        source=f"{_SCOP}, public code",
        differs=_FLOPS,
    ),
    Published(
        method="scop",
        network="ResNet-20, CIFAR-10",
        figure="accuracy 92.22 to 90.75 % at -55.7 % FLOPs",
        source=f"{_SCOP}, as cited elsewhere",
        differs=_FLOPS,
    ),
    Published(
        method="meta-pruning",
        network="MobileNetV2, ImageNet",
        figure="accuracy 72.0 to 72.7 % at 303 in place of 313 MFLOPs",
        source=f"{_META}, public code",
        differs=_FLOPS,
    ),
    Published(
        method="pfp",
        network="ResNet-50, ImageNet",
        figure="error 23.87 to 24.79 % at -44 % FLOPs",
        source=f"{_PFP}, as cited elsewhere",
        differs=_FLOPS,
    ),
    Published(
        method="pfp",
        network="ResNet-20, CIFAR-10",
        figure="accuracy -0.28 points at -40 % parameters",
        source=f"{_PFP}, as cited elsewhere",
        differs=_PARAMETERS,
    ),
)


def published_of(methods: Sequence[str]) -> list[Published]:
    """Published figures of these methods, in the order of the methods."""
    return [one for method in methods for one in PUBLISHED if one.method == method.split(" ")[0]]
