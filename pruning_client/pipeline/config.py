"""Settings of a pruning job: small values that are the API. Times in seconds, latencies in ms, as
named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from latency_service.devices.schemas import RuntimeConfig

MethodName = Literal[
    "w-gates", "free-gates", "l1", "l2", "bn-scale", "group-norm", "uniform", "most-macs"
]
LossName = Literal["dual", "abs", "log1p"]
PredictorSource = Literal["local", "served"]
PrecisionName = Literal["auto", "float32", "bfloat16"]
AllocatorName = Literal["threshold", "uniform", "greedy"]


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Joint training of weights and gates."""

    epochs: int = 6
    #: how the latency enters the loss (docs/methods.md, section 1)
    loss: LossName = "dual"
    #: weight of the latency term of `abs` and `log1p`
    alpha: float = 1.0
    #: growth of the multiplier of `dual` for each relative excess and step, times the number of
    #: steps with open gates
    rho: float = 6.0
    #: weight of the square of the relative excess beside the multiplier of `dual` (augmented
    #: Lagrangian): keeps the latency from swinging around the budget, and from drifting below it
    damping: float = 4.0
    #: where the multiplier of `dual` starts
    multiplier: float = 0.1
    #: SGD on the weights, at one rate after a short warm-up: fine-tuning lowers it
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    #: Adam on the gates; by default such that a score can cross a quarter of the band in the steps
    #: that there are: gates begin where the network wants them, and widths that wander cost
    #: accuracy
    gate_lr: float | None = None
    #: share of the steps, at the end, with frozen gates
    frozen_share: float = 0.2


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Training of the pruned network."""

    epochs: int = 6
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    #: share of the distillation loss against the dense network's answers, in joint training with
    #: gates as well; 0 turns it off
    distillation: float = 0.7
    temperature: float = 3.0
    #: batches seen when the statistics of batch norms are estimated anew
    recalibration_batches: int = 50


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

    method: MethodName = "w-gates"
    allocator: AllocatorName = "threshold"
    predictor: PredictorSource = "local"
    #: this predictor, which must be of the very target, instead of the newest one
    predictor_id: str | None = None
    #: of the forward pass in training: "auto" is bfloat16 on GPUs that compute with it, else
    #: float32
    precision: PrecisionName = "auto"
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    seed: int = 0
    #: images per training batch, for data that are not a DataLoader
    batch_size: int = 128
    #: share of the data held out for accuracy when no validation data are given
    held_out: float = 0.2
    gates: GateConfig = field(default_factory=GateConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    campaign: CampaignConfig = field(default_factory=CampaignConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
