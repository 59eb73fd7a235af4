"""Settings of equal latency: how widths are corrected, and how files are measured in the end."""

from __future__ import annotations

from dataclasses import dataclass

from pruning_client.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class EqualLatency:
    """How all methods are brought to one latency [ours]."""

    #: Number of times that a structure is measured in one job while widths are corrected.
    passes: int = 2
    #: Number of measurements of each delivered file, and of the dense network, in turn. With more
    #: they go on until every file is known to keep the budget or not to keep it.
    readings: int = 3
    #: Maximum number of these measurements.
    most_readings: int = 6
    #: Relative distance of the common latency below the budget; by default that of a pruning job,
    #: which grows with the noise of the device, and the tolerance of the correction.
    margin: float | None = None
    #: Number of times that a method whose file turns out not to be as fast as the others is
    #: brought to their latency again, and fine-tuned again.
    corrections: int = 1

    def __post_init__(self) -> None:
        if self.passes < 1 or not 1 <= self.readings <= self.most_readings or self.corrections < 0:
            raise UsageError(
                f"Equal latency with {self.passes} passes, {self.readings} to "
                f"{self.most_readings} readings and {self.corrections} corrections is invalid.",
                "Give at least one pass and one reading, and no more readings than at most.",
            )
