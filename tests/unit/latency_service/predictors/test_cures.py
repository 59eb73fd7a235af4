"""The command that repairs a stale predictor is one that exists."""

from __future__ import annotations

import shlex

import typer

from latency_service.cli.main import app
from latency_service.devices.schemas import RuntimeConfig
from latency_service.predictors.schemas import cure_of_stale


def test_the_repairing_command_exists_with_its_options() -> None:
    runtime = RuntimeConfig(intra_threads=2, batch=4, precision="int8")
    cure = cure_of_stale("5" * 64, "a board", runtime.model_dump())
    words = shlex.split(cure.removeprefix("Run: "))
    assert words[:3] == ["latency-service", "campaigns", "create"]
    command = typer.main.get_command(app)
    for name in words[1:3]:
        command = command.get_command(None, name)  # type: ignore[attr-defined]
    context = command.make_context("create", words[3:])
    assert context.params["device"] == "a board"
    assert [context.params[f"target_{name}"] for name in ("threads", "batch", "precision")] == [
        2,
        4,
        "int8",
    ]
