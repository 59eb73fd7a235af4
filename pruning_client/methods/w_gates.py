"""W-Gates (Li et al., "Weight-dependent gates", ECCV-W 2020; IEEE TCSVT 2022; arXiv 2007.02066).

Gates that read the filters' own weights are trained together with them under a latency predictor.
The paper's idea; gate, initial widths, schedule and the losses of a budget are reconstructions or
our own, as docs/methods.md, section 1 marks them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pruning_client.methods.base import Context, Selection
from pruning_client.methods.gate_options import GateOptions
from pruning_client.methods.gate_training import train_gates
from pruning_client.methods.gates import FreeScores, WeightScores


@dataclass(frozen=True, kw_only=True)
class WGates(GateOptions):
    """Gates that are a learnt function of the filters' weights."""

    @property
    def name(self) -> str:
        return "w-gates"

    def run(self, context: Context) -> Selection:
        """Train weights and gates until the gates' widths meet the budget; see `train_gates`."""
        return train_gates(context, WeightScores, self)


@dataclass(frozen=True, kw_only=True)
class FreeGates(GateOptions):
    """The ablation: a free parameter for each channel in place of a function of its weights."""

    @property
    def name(self) -> str:
        return "free-gates"

    def run(self, context: Context) -> Selection:
        """Train weights and gates until the gates' widths meet the budget; see `train_gates`."""
        return train_gates(context, FreeScores, self)
