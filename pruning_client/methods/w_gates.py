"""W-Gates (Li et al., "Weight-dependent gates", ECCV-W 2020; IEEE TCSVT 2022; arXiv 2007.02066).

Gates that are a function of the filters' weights are trained together with the weights under a
latency predictor. The idea is the paper's; gate, initial widths, schedule and budgeted losses are
reconstructions or our own, as marked in docs/explanation/methods.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from pruning_client.methods.base import Context, Selection
from pruning_client.methods.gate_options import WidthGateOptions
from pruning_client.methods.gate_training import train_gates
from pruning_client.methods.gates import FreeScores, WeightScores


@dataclass(frozen=True, kw_only=True)
class WGates(WidthGateOptions):
    """Gates that are a learnt function of the filters' weights."""

    @property
    def name(self) -> str:
        return "w-gates"

    def run(self, context: Context) -> Selection:
        """Train weights and gates until the gates' widths meet the budget; see `train_gates`."""
        return train_gates(context, WeightScores, self)


@dataclass(frozen=True, kw_only=True)
class FreeGates(WidthGateOptions):
    """Ablation of `WGates`: each channel's score is a free parameter, not a function of weights."""

    @property
    def name(self) -> str:
        return "free-gates"

    def run(self, context: Context) -> Selection:
        """Train weights and gates until the gates' widths meet the budget; see `train_gates`."""
        return train_gates(context, FreeScores, self)
