"""Bad input, refusals and a service that is not there: an exit code each, and a cause with its
cure.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from sqlalchemy.exc import OperationalError
from typer.core import TyperCommand, TyperGroup, TyperOption

from latency_service.cli.database import answering
from latency_service.cli.main import app
from latency_service.core.exit_codes import FAILED, of_error
from latency_service.db.faults import DatabaseFault
from latency_service.settings import Settings
from tests.support.outcomes import Run
from tests.support.scripted_service import ScriptedService


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "bad_request", 6),
        (401, "unauthorised", 4),
        (403, "forbidden", 4),
        (404, "not_found", 3),
        (409, "not_ready", 3),
        (409, "conflict", 1),
        (410, "gone", 1),
        (413, "too_large", 6),
        (422, "bad_request", 6),
        (500, "internal", 1),
        (503, "not_migrated", 3),
    ],
)
def test_a_refusal_becomes_an_exit_code_with_cause_and_cure(
    status: int, code: str, exit_code: int, call: Run, service: ScriptedService
) -> None:
    service.refuse("GET /v1/devices/board", status, code)
    outcome = call("devices", "show", "board")
    assert (outcome.code, outcome.out) == (exit_code, "")
    assert outcome.err.split("\n")[:2] == ["The cause.", "The cure."]
    error = json.loads(call("devices", "show", "board", "--json").err)["error"]
    assert error == {"code": code, "message": "The cause.", "cure": "The cure."}


def test_a_service_that_is_not_there(run: Run) -> None:
    outcome = run("devices", "list", "--server", "http://127.0.0.1:9")
    assert outcome.code == 5
    assert "latency-service up" in outcome.err


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (["devices", "list", "--server", "board:8760"], 2, "http://127.0.0.1:8760"),
        (["devices", "show", ".."], 2, "not a valid name or id"),
        (["campaigns", "create", "--device", "board"], 2, "--space"),
        (
            ["campaigns", "create", "--space", "a", "--device", "b", "--architectures", "7"],
            2,
            "--architectures",
        ),
        (["predictors", "predict", "p", "--widths", "16,x"], 6, "one for each group"),
        (["spaces", "create", "no-such-file"], 6, "no-such-file cannot be read"),
        (
            ["campaigns", "create", "--space", "a", "--device", "b", "--widths", __file__],
            6,
            "not valid JSON",
        ),
        (["no-such-noun"], 2, "No such command"),
    ],
)
def test_bad_input(words: list[str], exit_code: int, said: str, run: Run) -> None:
    outcome = run(*words)
    assert outcome.code == exit_code
    assert said in re.sub(r"\x1b\[[0-9;]*m", "", outcome.err)


def test_a_full_disk_is_not_called_a_database_that_does_not_answer(tmp_path: Path) -> None:
    cause = sqlite3.OperationalError("database or disk is full")
    settings = Settings(data_dir=tmp_path)
    refused = pytest.raises(DatabaseFault, match="its disk is full")
    with refused as caught, answering(settings):
        raise OperationalError("INSERT", {}, cause)
    assert (caught.value.code, of_error(caught.value)) == ("database_full", FAILED)


def test_settings_that_are_not_valid(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENCY_SERVICE_API_TOKEN", "changeme")
    outcome = run("db", "current")
    assert outcome.code == 6
    assert "api_token" in outcome.err
    assert "changeme" not in outcome.err


def test_without_a_token_the_embedded_services_is_used_but_never_leaves_the_machine(
    run: Run, service: ScriptedService, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir.mkdir()
    (data_dir / "token").write_text("embedded-token-0123\n")
    service.on("GET /v1/devices?limit=1000&offset=0", [])
    assert run("devices", "list", "--server", service.url).code == 0
    monkeypatch.setenv("LATENCY_SERVICE_TOKEN", "from-the-environment")
    monkeypatch.setenv("LATENCY_SERVICE_URL", service.url)
    assert run("devices", "list").code == 0
    assert [seen.authorization for seen in service.seen] == [
        "Bearer embedded-token-0123",
        "Bearer from-the-environment",
    ]


@pytest.mark.parametrize("words", [["serve"], ["up"], ["trainer"], ["db", "upgrade"]])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    words: list[str], tmp_path: Path
) -> None:
    hide = (
        "import sys\n"
        "for name in ('torch', 'fastapi', 'sqlalchemy', 'uvicorn', 'alembic', 'sklearn'): "
        "sys.modules[name] = None\n"
        "from latency_service.cli.main import main\n"
        f"main({[*words, '--data-dir', str(tmp_path)]!r})\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", hide], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "pip install 'latency-service[service]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_command_documents_the_exit_codes(run: Run) -> None:
    for words in (["--help"], ["up", "--help"], ["campaigns", "--help"]):
        plain = " ".join(run(*words).out.split())
        assert (
            "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found or not ready, 4 authentication"
            in plain
        )


def commands(group: TyperGroup, path: str = "") -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path}{name} ")
        elif isinstance(command, TyperCommand):
            yield f"{path}{name}", command


def test_a_command_with_many_options_sorts_them_into_panels_by_topic() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    loose = {}
    for name, command in commands(group):
        options = [one for one in command.params if isinstance(one, TyperOption) and not one.hidden]
        if len(options) > 5:
            loose[name] = [one.name for one in options if not one.rich_help_panel]
    assert "campaigns create" in loose
    assert not any(loose.values()), loose


def test_the_command_line_needs_none_of_the_services_packages() -> None:
    code = (
        "import sys, latency_service.cli.main\n"
        "print([name for name in ('torch', 'fastapi', 'sqlalchemy', 'uvicorn', 'onnx') if name "
        "in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
