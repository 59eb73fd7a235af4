"""Settings of a pruning job: small values that are the API. Times in seconds, latencies in ms, as
named.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from latency_service.devices.schemas import RuntimeConfig
from pruning_client.methods.base import Method
from pruning_client.methods.registry import options_of
from pruning_client.methods.w_gates import WGates
from pruning_client.training.config import Training

PredictorSource = Literal["local", "served"]


@dataclass(frozen=True, kw_only=True)
class CampaignConfig:
    """Measuring, when there is no predictor for the space on the target yet."""

    #: whether a campaign may be started at all
    allowed: bool = True
    count: int = 120
    repeats: int = 12
    timeout_seconds: float = 6 * 3600.0


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """The closed loop of measuring the pruned network and correcting its widths."""

    #: corrections of the widths after a measurement, before and after fine-tuning together
    rounds: int = 3
    #: of them after fine-tuning, each of which trains for half as long again
    late_rounds: int = 3
    #: measurements on each target in all: the dense network, structures, delivered files, repeats
    #: of unstable ones
    measurements: int = 10
    #: how far below the budget to aim, relative: measurements repeat within about this much
    margin: float = 0.008
    #: a network further below the budget than this, relative, gets wider again
    slack: float = 0.015
    #: before an unstable measurement is repeated: a disturbance of the machine often lasts
    pause_seconds: float = 20.0
    timeout_seconds: float = 600.0


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """A whole pruning job, apart from model, data, device and budget."""

    method: Method = field(default_factory=WGates)
    predictor: PredictorSource = "local"
    #: this predictor, which must be of the very target, instead of the newest one
    predictor_id: str | None = None
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    training: Training = field(default_factory=Training)
    campaign: CampaignConfig = field(default_factory=CampaignConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)


def as_plain(config: PruneConfig) -> dict[str, Any]:
    """The settings as plain values; of the user's own recipe there are none."""
    training = {
        entry.name: getattr(config.training, entry.name)
        for entry in fields(Training)
        if entry.name != "recipe"
    }
    return {
        "method": {"name": config.method.name, **options_of(config.method)},
        "predictor": config.predictor,
        "predictor_id": config.predictor_id,
        "runtime": config.runtime.model_dump(),
        "training": training,
        "campaign": asdict(config.campaign),
        "verify": asdict(config.verify),
    }
