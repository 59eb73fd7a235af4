"""Settings of the predictor that a job uses, and of the campaign that makes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pruning_client.errors import UsageError

PredictorSource = Literal["local", "served"]


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """The predictor of a job; a campaign measures and trains one when the target has none yet."""

    #: whether a campaign may be started
    allowed: bool = True
    #: number of architectures that the campaign samples; with `error_goal` the maximum
    architectures: int = 120
    #: number of them that are measured twice, for the repeatability floor
    repeats: int = 12
    #: held-out error to reach, per cent: the campaign measures in rounds, and ends when the upper
    #: confidence bound of the error is at most this
    error_goal: float | None = None
    #: seconds until the campaign has to be finished
    timeout_seconds: float = 6 * 3600.0
    #: place where the predictor is evaluated: "local" in this process, "served" over HTTP
    source: PredictorSource = "local"
    #: id of the predictor to use instead of the newest one; it must be one of the very target
    predictor_id: str | None = None

    def __post_init__(self) -> None:
        """Check the goal.

        Raises:
            UsageError: It is no percentage.
        """
        if self.error_goal is not None and not 0 < self.error_goal <= 100:
            raise UsageError(
                f"Campaign(error_goal={self.error_goal}) is no percentage.",
                "Give the held-out error to reach in per cent, such as error_goal=3.",
            )
