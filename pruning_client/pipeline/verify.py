"""Settings of the closed loop that measures the pruned network and corrects its widths."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Verify:
    """The closed loop of measuring the pruned network and correcting its widths."""

    #: corrections of the widths before fine-tuning, each by a measured structure
    rounds: int = 5
    #: corrections after fine-tuning, each of which trains for half as long again
    late_rounds: int = 5
    #: time on each target for measuring files, seconds: waiting for a quieter machine included, and
    #: waiting for other users' jobs not; by default the longer of 10 minutes and the time of 30
    #: measurements
    seconds: float | None = None
    #: probability of keeping the budget from which on it is met; one minus it is not met
    confidence: float = 0.975
    #: relative distance below the aim beyond which a network is made wider again
    slack: float = 0.01
    #: first pause before a disturbed file is measured again, seconds; each next one is twice as
    #: long
    pause_seconds: float = 10.0
    #: time within which one measurement has to be finished, seconds
    timeout_seconds: float = 1800.0
