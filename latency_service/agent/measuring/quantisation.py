"""int8 by ONNX Runtime's static quantization. Only the latency is wanted, so random images
calibrate it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnx import ModelProto


def quantise(model: ModelProto, feeds: Mapping[str, npt.NDArray[Any]], folder: Path) -> ModelProto:
    """`model` (fixed shapes) with int8 weights and activations in QDQ form, per channel, calibrated
    on `feeds`.

    Raises:
        Exception: of ONNX Runtime, when it cannot quantise this graph.
    """
    # imported here: it costs .2 s that float targets need not pay
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Once(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: list[Mapping[str, npt.NDArray[Any]]] = [feeds]

        def get_next(self) -> Mapping[str, npt.NDArray[Any]] | None:
            return self.left.pop() if self.left else None

    logging.getLogger().setLevel(logging.ERROR)
    source, prepared, target = (folder / f"{name}.onnx" for name in ("float", "prepared", "int8"))
    onnx.save_model(model, source)
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        target,
        Once(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    quantised = onnx.load_model(target)
    for path in (source, prepared, target):
        path.unlink()
    return quantised
