"""DCPH: DCP-CAC on a wider network, pruned to the latency of the given one (Chen et al., TNNLS
2021).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from pruning_client.errors import UsageError
from pruning_client.graph.space import Traced
from pruning_client.graph.widening import widened
from pruning_client.methods.dcp.method import DCP


@dataclass(frozen=True, kw_only=True)
class DCPH(DCP):
    """`DCP` on a network whose width groups are `factor` times as wide as those of the given one.

    The budget is a share of the given network's latency, as for every method: "100%" asks for the
    best network that is as fast as the given one.
    """

    #: Width of the network that is pruned, relative to the given one.
    factor: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.factor > 1:
            raise UsageError(f"The option factor of DCPH is {self.factor!r}.", "Give more than 1.")

    @property
    def name(self) -> str:
        return "dcph"

    def widened(self, model: nn.Module, traced: Traced, seed: int) -> nn.Module:
        """A wider network that computes the same; see `pruning_client.widen`.

        With ``start="scratch"`` its weights are drawn anew when the training starts.

        Raises:
            WideningError: Channels cannot be added to the model.
        """
        return widened(model, traced, factor=self.factor, seed=seed)
