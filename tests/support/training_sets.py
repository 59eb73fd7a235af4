"""Training sets of simulated measurements, and what a trained predictor says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime

from latency_service.training.pipeline import Trained, TrainingSet

#: Relative noise of the simulated measurements.
NOISE = 0.01


def without(data: TrainingSet, keep: int) -> TrainingSet:
    """The first `keep` measurements of `data`."""
    return replace(
        data,
        measurement_ids=data.measurement_ids[:keep],
        widths=data.widths[:keep],
        latency_ms=data.latency_ms[:keep],
        half_width=data.half_width[:keep],
    )


def predict(trained: Trained, widths: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(trained.artifact, providers=["CPUExecutionProvider"])
    return list(
        session.run(["latency_ms", "lower_ms", "upper_ms"], {"widths": widths.astype(np.float32)})
    )
