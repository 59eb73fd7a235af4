"""Options of polarising gates."""

from __future__ import annotations

from dataclasses import dataclass

from pruning_client.errors import UsageError
from pruning_client.methods.gate_options import GateOptions


@dataclass(frozen=True, kw_only=True)
class GdpOptions(GateOptions):
    """Joint training of weights and polarising gates."""

    #: Epsilon of the gates at the beginning.
    epsilon: float = 0.1
    #: Epsilon when the widths are decided.
    last_epsilon: float = 1e-4
    #: A gate up to this value counts as closed.
    threshold: float = 0.01
    #: Lowest gate of a channel that is kept.
    margin: float = 0.5
    #: Whether there are gates of whole residual branches, beside those of channels.
    blocks: bool = False

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UsageError: They contradict each other.
        """
        if not 0 < self.last_epsilon <= self.epsilon:
            raise UsageError(
                f"An epsilon that falls from {self.epsilon:g} to {self.last_epsilon:g} is invalid.",
                "Give 0 < last_epsilon <= epsilon.",
            )
        if not 0 <= self.threshold < self.margin <= 1:
            raise UsageError(
                f"A threshold of {self.threshold:g} with a margin of {self.margin:g} is invalid.",
                "Give 0 <= threshold < margin <= 1.",
            )
