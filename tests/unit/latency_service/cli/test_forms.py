"""What all commands share: forms of output, exit codes, quick starts, completion, Ctrl-C."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand

from latency_service.cli.main import app
from latency_service.core import exit_codes
from pruning_client.cli.main import app as pruning_app
from tests.support import views
from tests.support.commands import leaves
from tests.support.outcomes import Run
from tests.support.scripted_service import ScriptedService

ROOT = Path(__file__).parents[4]
#: Commands that run until they are stopped.
LASTING = {"up", "serve", "agent", "trainer"}
#: What no quick command may import.
HEAVY = ("torch", "sqlalchemy", "fastapi", "plotly", "pandas", "onnx", "onnxruntime", "numpy")
QUICK = [
    ("latency_service", "--help"),
    ("latency_service", "devices list --server http://127.0.0.1:9"),
    ("latency_service", "measure --help"),
    ("latency_service", "up --help"),
    ("pruning_client", "--help"),
    ("pruning_client", "prune --help"),
    ("pruning_client", "compare-methods --help"),
]


@pytest.mark.parametrize("program", [app, pruning_app], ids=["service", "client"])
def test_every_command_that_shows_something_has_json_and_csv(program: typer.Typer) -> None:
    without = {
        name
        for name, command in leaves(program)
        if isinstance(command, TyperCommand)
        and not {"--json", "--csv"} <= {word for one in command.params for word in one.opts}
    }
    assert without == (LASTING if program is app else set())


def test_the_two_forms_exclude_each_other(run: Run) -> None:
    outcome = run("devices", "list", "--json", "--csv")
    assert (outcome.code, outcome.out) == (2, "")


def test_csv_of_a_list(call: Run, service: ScriptedService) -> None:
    service.on("GET /v1/devices?limit=1000&offset=0", [views.device()])
    head, row = call("devices", "list", "--csv").out.splitlines()
    assert head.startswith("device,online,quarantined,differs from,last seen")
    assert row.startswith("board,true,false,,2025-06-01T12:30:15")


@pytest.mark.parametrize(("program", "words"), QUICK, ids=lambda value: str(value))
def test_quick_commands_import_nothing_heavy(program: str, words: str) -> None:
    code = (
        f"import sys\nfrom {program}.cli.main import main\n"
        f"sys.argv = ['program', *{words.split()!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_every_exit_code_that_is_raised_is_documented() -> None:
    documented = {
        int(code)
        for code in re.findall(
            r"^\| (\d+) \|", (ROOT / "docs/reference/exit-codes.md").read_text(), re.MULTILINE
        )
    }
    sources = "\n".join(
        path.read_text()
        for package in ("latency_service", "pruning_client")
        for path in (ROOT / package).rglob("*.py")
    )
    named = set(re.findall(r"exit_codes\.([A-Z_]+)\b", sources)) - {"MEANINGS"}
    literal = set(re.findall(r"(?:typer\.Exit|sys\.exit|exit_code(?: =|=))\(?\s?(\d+)", sources))
    raised = {getattr(exit_codes, name) for name in named} | set(map(int, literal))
    assert {exit_codes.INTERRUPTED, exit_codes.REFUSED} <= raised
    assert raised <= documented
    assert documented == set(exit_codes.MEANINGS)


def texts(path: Path) -> Iterator[str]:
    """String literals of a module, adjacent ones joined."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_commands_that_messages_name_exist() -> None:
    known = {name for name, _ in leaves(app)}
    groups = {name.split()[0] for name in known if " " in name}
    wrong = {
        (path.name, name)
        for path in (ROOT / "latency_service").rglob("*.py")
        for text in texts(path)
        for first, second in re.findall(r"(?:`|: )latency-service ([a-z-]+)(?: ([a-z-]+))?", text)
        if (name := f"{first} {second}" if first in groups and second else first)
        not in known | groups
    }
    assert wrong == set()


def completed(words: str, service: str) -> list[str]:
    environment = {
        "_LATENCY_SERVICE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
        "LATENCY_SERVICE_URL": service,
        "LATENCY_SERVICE_TOKEN": "secret-token-0123456789",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "latency_service"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    return ran.stdout.split()


def test_shells_complete_ids_and_names_and_say_nothing_where_no_service_answers(
    service: ScriptedService,
) -> None:
    service.on("GET /v1/devices", [views.device()])
    service.on("GET /v1/campaigns", [views.campaign()])
    assert completed("latency-service devices show b", service.url) == ["board"]
    assert completed("latency-service campaigns watch ", service.url) == ["campaign-1"]
    assert completed("latency-service measurements list --device b", service.url) == ["board"]
    assert completed("latency-service devices show ", "http://127.0.0.1:9") == []
    assert completed("latency-service dev", "http://127.0.0.1:9") == ["devices"]


def test_ctrl_c_leaves_the_campaign_and_says_how_to_follow_it_again(
    call: Run, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **_more: object) -> Iterator[object]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("latency_service.cli.watching.changes", stop)
    service.on("POST /v1/campaigns", views.campaign(), status=201)
    outcome = call("campaigns", "create", "--space", "ab", "--device", "board", "--watch")
    assert outcome.code == exit_codes.INTERRUPTED
    assert "latency-service campaigns watch campaign-1" in outcome.err
    assert [seen.path for seen in service.seen] == ["/v1/campaigns"]
