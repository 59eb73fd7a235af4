"""Settings of the closed loop that measures the pruned network and corrects its widths."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Verify:
    """The closed loop of measuring the pruned network and correcting its widths."""

    #: corrections of the widths after a measurement, before and after fine-tuning together
    rounds: int = 3
    #: corrections after fine-tuning, each of which trains for half as long again
    late_rounds: int = 3
    #: measurements on each target: the dense network, structures, delivered files, and repeats of
    #: unstable ones
    measurements: int = 10
    #: relative distance of the aim below the budget; measurements repeat within about this much
    margin: float = 0.008
    #: relative distance below the budget beyond which a network is made wider again
    slack: float = 0.015
    #: seconds before an unstable measurement is repeated; disturbances of a machine often last
    pause_seconds: float = 20.0
    #: seconds until a measurement has to be finished
    timeout_seconds: float = 600.0
