from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save

from latency_service.core import locks
from latency_service.core.credentials import Credentials
from pruning_client.execution.progress import ProgressEvent
from pruning_client.pipeline import ray_tasks
from pruning_client.pipeline.ray import RayCluster
from pruning_client.pipeline.ray_tasks import PruningTask, SentNetwork, _Reporter, run_task
from pruning_client.pipeline.settings import JobSettings
from tests.support.tiny_networks import TinyNet, tiny_net


@pytest.fixture(autouse=True)
def own_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else measures on this machine."""
    monkeypatch.setattr(locks, "lock_path", lambda: tmp_path / "turn.lock")


def task_of(model: TinyNet, budget: str = "60%") -> PruningTask:
    return PruningTask(
        budget=budget,
        settings=JobSettings(),
        command="pruning-client prune",
        model=SentNetwork(
            reference="tests.support.tiny_networks:tiny_net",
            weights=save({name: value.contiguous() for name, value in model.state_dict().items()}),
            torch_device="cpu",
        ),
        service=Credentials(url="http://127.0.0.1:1", token="a-secret-of-the-service"),
    )


def test_a_task_makes_the_network_with_the_weights_that_were_sent() -> None:
    model = tiny_net()
    with torch.no_grad():
        next(model.parameters()).fill_(0.25)
    made = task_of(model).model.make()
    for name, value in model.state_dict().items():
        assert torch.equal(made.state_dict()[name], value)


def test_what_is_frozen_stays_frozen_and_layers_may_share_their_weights() -> None:
    model = tiny_net().train()
    model.bn.eval()
    model.bn.weight.requires_grad_(False)
    model.block.bn2.weight = model.block.bn1.weight
    sent = RayCluster("auto", model="tests.support.tiny_networks:tiny_net").sent(model)
    made = sent.make()
    assert {name for name, one in made.named_parameters() if not one.requires_grad} == {"bn.weight"}
    assert {name for name, one in made.named_modules() if not one.training} == {"bn"}
    assert torch.equal(made.state_dict()["block.bn2.weight"], model.block.bn1.weight)


def test_a_task_shows_neither_its_token_nor_its_weights() -> None:
    shown = repr(task_of(tiny_net()))
    assert "a-secret-of-the-service" not in shown
    assert len(shown) < 2000


def test_a_task_gives_back_the_reason_of_a_failure() -> None:
    outcome = run_task(task_of(tiny_net(), budget="0ms"), None)
    assert outcome.files == {}
    assert outcome.failure is not None
    assert "0ms" in outcome.failure


class Board:
    """Stands for the handle of the actor."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, int]] = []
        self.note = SimpleNamespace(remote=self._note)

    def _note(self, budget: str, event: ProgressEvent) -> None:
        assert budget == "60%"
        self.noted.append((event.phase, event.done))


def event(phase: str, done: int) -> ProgressEvent:
    return ProgressEvent(phase=phase, done=done, total=9)


def test_a_job_tells_its_phases_at_once_and_its_steps_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter([0.0, 0.5, 1.2, 1.3])
    monkeypatch.setattr(ray_tasks, "time", SimpleNamespace(monotonic=lambda: next(times)))
    board: Any = Board()
    report = _Reporter("60%", board)
    for phase, done in (("prune", 1), ("prune", 2), ("prune", 3), ("fine-tune", 1)):
        report(event(phase, done))
    assert board.noted == [("prune", 1), ("prune", 3), ("fine-tune", 1)]


def test_a_job_gives_way_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Path] = []
    monkeypatch.setattr(ray_tasks, "GivingWay", lambda: lambda: given.append(Path()))
    report = _Reporter("60%", None)
    for done in range(3):
        report(event("prune", done))
    assert len(given) == 3
