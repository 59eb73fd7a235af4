"""A method does once for several budgets what does not depend on the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pruning_client import Campaign, EqualLatency, Training, Uniform, compare_methods, sweep
from pruning_client.methods.base import Context, Selection
from tests.support.boards import ServedBoard
from tests.support.tiny_networks import TinyNet, digits


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Uniform widths after a preparation that does not depend on the budget."""

    preparations: ClassVar[list[int]] = []
    name = "prepared"

    def run(self, context: Context) -> Selection:
        if context.shared.load("preparation") is None:
            self.preparations.append(context.training.seed)
            context.shared.save("preparation", {}, {})
        return Uniform().run(context)


def swept(model: TinyNet, data: Any, out: Path, **common: Any) -> None:
    sweep(model, data, method=Prepared(), out_dir=out, **common)


def compared(model: TinyNet, data: Any, out: Path, **common: Any) -> None:
    equality = EqualLatency(passes=1, readings=1, most_readings=1)
    compare_methods(model, data, methods=[Prepared()], equality=equality, out_dir=out, **common)


@pytest.mark.parametrize("run", [swept, compared])
def test_a_preparation_is_done_once_for_all_budgets(
    served: ServedBoard, trained: TinyNet, tmp_path: Path, run: Callable[..., None]
) -> None:
    Prepared.preparations.clear()
    images, labels = digits()
    common = {
        "budgets": ["70%", "60%"],
        "client": served.client,
        "training": Training(epochs=1, lr=0.03, batch_size=64, recalibration_batches=5, seed=3),
        "campaign": Campaign(architectures=12, repeats=2, timeout_seconds=60),
    }
    data = images[:400], labels[:400]
    run(trained, data, tmp_path, **common)
    assert Prepared.preparations == [3]
    # what is kept belongs to this run: another one does everything anew
    run(trained, data, tmp_path, **common)
    assert Prepared.preparations == [3, 3]
