"""W-Gates (Li et al., "Weight-dependent gates", ECCV-W 2020; IEEE TCSVT 2022; arXiv 2007.02066).

Gates that read the filters' own weights are trained together with them under a latency predictor.
The paper's idea; gate, start, schedule and the budgeted losses are reconstructions or our own, as
docs/methods.md, section 1 marks them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pruning_client.methods.base import Context, Selection
from pruning_client.methods.gate_training import train_gates
from pruning_client.methods.gates import FreeScores, WeightScores


class _Gated:
    """Joint training with one kind of gate."""

    def __init__(self, kind: Callable[..., Any]) -> None:
        self._kind = kind

    def run(self, context: Context) -> Selection:
        """Train weights and gates until the gates' widths meet the budget; see
        `loop.train_gates`.
        """
        if not context.traced.space.groups:
            raise ValueError("the space has no width group: there is nothing to decide")
        torch.manual_seed(context.config.seed)
        scores = self._kind(context.model, context.traced)
        return train_gates(context, scores.to(next(context.model.parameters()).device))


class WGates(_Gated):
    """Gates from the filters' weights."""

    def __init__(self) -> None:
        super().__init__(WeightScores)


class FreeGates(_Gated):
    """The ablation: a free parameter for each channel in place of a function of its weights."""

    def __init__(self) -> None:
        super().__init__(FreeScores)
