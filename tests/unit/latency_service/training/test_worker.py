"""What a trainer writes beside a predictor."""

from __future__ import annotations

import numpy as np
import pytest

from latency_service.training.models.transfer import KnownTarget
from latency_service.training.pipeline import Trained, TrainingSet
from latency_service.training.worker import with_sources
from tests.support import fake_predictor
from tests.support.tiny import tiny_space


@pytest.mark.parametrize(("model", "sources"), [("lpnet-transfer", ["t1", "t2"]), ("lpnet", [])])
def test_a_predictor_names_the_targets_it_has_transferred_from(
    model: str, sources: list[str]
) -> None:
    space = tiny_space()
    known = [
        KnownTarget(widths=np.array([[8, 8]]), latency_ms=np.array([1.0]), target_id=name)
        for name in ("t2", "t1")
    ]
    data = TrainingSet(
        space=space,
        fingerprint="f" * 64,
        measurement_ids=["m"],
        widths=np.array([[8, 8]]),
        latency_ms=np.array([1.0]),
        half_width=np.array([0.01]),
        lattice=[[8], [8]],
        seed=0,
        known=known,
    )
    sidecar = fake_predictor.sidecar(space.id, "f" * 64).model_copy(update={"model": model})
    made = Trained(artifact=b"", sidecar=sidecar, held_out=fake_predictor.held_out())
    trained = with_sources(made, data)
    assert trained.sidecar.transferred_from == sources
