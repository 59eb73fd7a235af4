"""What the closed loop does when a step fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from latency_service.core.client.connection import Timeout
from pruning_client.errors import MeasurementFailed, Refused
from pruning_client.latency.predictor import Widths
from pruning_client.latency.readings import FileKey, FileMeasurements
from pruning_client.methods.base import Selection
from pruning_client.pipeline import deliver as deliver_module
from pruning_client.pipeline.decision import Action, LoopState, MakeFile, Stop
from pruning_client.pipeline.deliver import deliver
from pruning_client.pipeline.verify import Verify
from tests.support.goals import fine, goal, measured, random_scores

FIRST: Widths = (8, 8, 8)
SECOND: Widths = (10, 10, 10)


class _Workshop:
    """Makes the first file, and fails with the second one."""

    error: Exception
    first_ms: float

    def __init__(self, job: Any, _gated: Any, selection: Selection) -> None:
        self.job = job
        self.selection = selection
        self.history: list[Any] = []
        self.files: list[Any] = []

    def make_file(self, widths: Widths) -> None:
        if self.files:
            raise self.error
        path: Path = self.job.folder / "pruned.onnx"
        self.files.append(
            SimpleNamespace(
                widths=widths,
                data=b"the first file",
                exported=SimpleNamespace(path=path),
                # the fp32 file beside it is not measured any more
                file=SimpleNamespace(is_quantised=True),
            )
        )

    def measure_file(self) -> FileMeasurements:
        return (measured(self.first_ms),)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def decide(state: LoopState) -> Action:
        following = {0: MakeFile(FileKey("delivered", FIRST)), 1: MakeFile(_second())}
        return following.get(len(state.files), Stop())

    monkeypatch.setattr(deliver_module, "decide", decide)
    monkeypatch.setattr(deliver_module, "Workshop", _Workshop)
    warned: list[str] = []

    def warn(text: str) -> None:
        warned.append(text)

    settings = SimpleNamespace(verify=Verify())
    return SimpleNamespace(
        folder=tmp_path,
        settings=settings,
        recorder=None,
        wide=None,
        in_channels_last=False,
        warn=warn,
        warnings=warned,
    )


def _second() -> FileKey:
    return FileKey("delivered", SECOND)


@pytest.mark.parametrize(
    "error",
    [
        Refused("no int8 file keeps the accuracy", "Use fp32."),
        MeasurementFailed("the agent was stopped", "Start it."),
        Timeout("The verification", 30.0, "Look at it."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_file_that_was_shown_to_keep_the_budget_is_delivered(
    job: Any, error: Refused | MeasurementFailed | Timeout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Workshop, "error", error, raising=False)
    monkeypatch.setattr(_Workshop, "first_ms", 0.5, raising=False)
    delivery = deliver(job, *_asked())
    assert delivery.outcome == "met"
    assert delivery.best.widths == FIRST
    assert delivery.float_measurements is None
    assert (job.folder / "pruned.onnx").read_bytes() == b"the first file"
    (warning,) = job.warnings
    assert error.message in warning


def test_without_such_a_file_the_failure_is_the_job_s(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Workshop, "error", Refused("nothing", "Use fp32."), raising=False)
    monkeypatch.setattr(_Workshop, "first_ms", 0.9, raising=False)
    with pytest.raises(Refused, match="nothing"):
        deliver(job, *_asked())


def _asked() -> tuple[Any, Any, Selection]:
    predictor = fine()
    scores = random_scores(predictor)
    return [goal(predictor, 0.6)], None, Selection(keep=[], scores=scores)
