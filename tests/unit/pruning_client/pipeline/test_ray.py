from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from latency_service.core.credentials import Credentials
from pruning_client.errors import Missing
from pruning_client.pipeline.ray import (
    PruningTask,
    RayCluster,
    SentNetwork,
    TaskOutcome,
    _collect,
    run_task,
)
from pruning_client.pipeline.settings import JobSettings
from tests.support.tiny_networks import TinyNet, tiny_net


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


def test_a_task_shows_neither_its_token_nor_its_weights() -> None:
    shown = repr(task_of(tiny_net()))
    assert "a-secret-of-the-service" not in shown
    assert len(shown) < 2000


def test_a_task_gives_back_the_reason_of_a_failure() -> None:
    outcome = run_task(task_of(tiny_net(), budget="0ms"), None)
    assert outcome.files == {}
    assert outcome.failure is not None
    assert "0ms" in outcome.failure


def test_files_of_finished_jobs_come_to_the_folder_of_their_budget(tmp_path: Path) -> None:
    outcomes = {
        "4ms": TaskOutcome(files={"report.json": b"{}"}),
        "1ms": TaskOutcome(failure="out of reach"),
    }
    assert _collect(outcomes, tmp_path) == {"1ms": "out of reach"}
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["{}"]


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Missing, match="Ray is not installed") as caught:
        RayCluster("local")
    assert "latency-service[cluster]" in caught.value.cure
