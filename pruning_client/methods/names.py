"""Names of methods and of allocators, for command lines that must not import torch."""

from __future__ import annotations

from typing import Literal

#: Rule that turns scores into widths.
AllocatorName = Literal["threshold", "uniform", "greedy"]

#: Names of the built-in methods, in the order in which they are listed.
BUILT_IN = (
    "w-gates",
    "free-gates",
    "gdp",
    "scop",
    "meta-pruning",
    "dcp",
    "dcp-2",
    "dcph",
    "pfp",
    "functionality",
    "weight-unification",
    "l1",
    "l2",
    "bn-scale",
    "group-norm",
    "uniform",
    "most-macs",
)
