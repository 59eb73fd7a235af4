"""Settings of int8 quantisation."""

from __future__ import annotations

from dataclasses import dataclass

from latency_service.core.runtimes import CalibrationName
from pruning_client.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """Static int8 quantisation of the delivered file (QDQ, weights per channel)."""

    #: how the range of an activation is found: "percentile" leaves out outliers, "entropy" loses
    #: the least information, "minmax" leaves out nothing
    calibration: CalibrationName = "percentile"
    #: training images to calibrate on, drawn with the seed of the training
    images: int = 128
    #: points of accuracy that an int8 file may have less than the fp32 file of the same network;
    #: layers are left in float, the most sensitive first, until it has not
    max_accuracy_drop: float = 1.0
    #: layers that are left in float in any case, by the name of the module
    float_layers: tuple[str, ...] = ()
    #: epochs of quantisation-aware training after the fine-tuning, at a tenth of its learning rate
    aware_epochs: int = 0

    def __post_init__(self) -> None:
        if self.images < 1 or self.max_accuracy_drop < 0 or self.aware_epochs < 0:
            raise UsageError(
                f"Quantisation with {self.images} images, a maximum accuracy drop of "
                f"{self.max_accuracy_drop:g} points and {self.aware_epochs} quantisation-aware "
                "epochs is invalid.",
                "Give at least one image, and a drop and epochs of 0 or more.",
            )
