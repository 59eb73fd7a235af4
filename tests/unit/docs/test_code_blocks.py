"""Every block of code in the documents is executed or checked, or listed here with a reason."""

from __future__ import annotations

import builtins
import dis
import importlib.util
import json
import re
import sys
import tempfile
import tomllib
import types
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fastapi import FastAPI
from starlette.routing import Match
from torch import nn

import pruning_client
from benchmarks.__main__ import names as benchmarks
from latency_service.app import create_app
from latency_service.cli.main import app as latency_service_app
from latency_service.settings import Settings
from pruning_client.cli.main import app as pruning_app
from pruning_client.methods.plugins import GROUP
from tests.support.code_blocks import ROOT, Block, blocks, commands, documents
from tests.support.commands import check_command
from tests.support.shown_results import checked
from tools.documentation.commands import commands as commands_of

#: First line of each block that nothing checks, and why.
UNCHECKED = {
    " user's torch model ── pruning_client ──► search space (weightless graph + width groups)": (
        "a drawing"
    ),
    "POST /v1/agents/register            enrolment token -> agent id, agent token (shown once), "
    "cadence": "the protocol in short; test_documents checks its paths",
}
#: Functions that would measure and train for minutes: their arguments are checked.
CHECKED_FUNCTIONS = ("prune", "compare_methods", "compress", "load_compressed")
#: What the pages take for granted, beside a small network with its images.
GIVEN = ("my_optimizer", "my_batches", "my_loss", "my_training")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BLOCKS = list(blocks())
OF_PYTHON = [block for block in BLOCKS if block.language == "python"]
COMMANDS = [
    pytest.param(words, id=f"{block}: {' '.join(words)}")
    for block in BLOCKS
    if block.language == "bash"
    for words in commands(block.text)
]

SENTENCES = "\n".join(path.read_text() for path in documents())
PROGRAMS = {"latency-service": latency_service_app, "pruning-client": pruning_app}
#: Options that typer adds.
OF_EVERY_PROGRAM = {"--help", "--install-completion", "--show-completion"}
#: Commands between backticks, with or without what they need.
IN_SENTENCES = sorted(
    set(re.findall(r"`((?:latency-service|pruning-client) [^`…\n]+)`", SENTENCES))
)


def test_every_block_is_of_a_kind_that_is_checked_or_is_listed() -> None:
    unknown = [
        str(block)
        for block in BLOCKS
        if block.language not in {"bash", "python", "toml", "yaml", "json"}
        and block.text.splitlines()[0] not in UNCHECKED
    ]
    assert unknown == []


def test_what_is_listed_stands_in_a_document() -> None:
    assert UNCHECKED.keys() <= {block.text.splitlines()[0] for block in BLOCKS}


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_exist_with_what_they_are_given(words: list[str]) -> None:
    check(words)


@pytest.mark.parametrize("sentence", IN_SENTENCES)
def test_commands_in_sentences_exist(sentence: str) -> None:
    words = sentence.split()
    name = " ".join(takewhile(re.compile("[a-z-]+$").match, words[:3])).partition(" --")[0]
    found = [
        command
        for full, command in commands_of(PROGRAMS[words[0]], words[0])
        if f"{full} ".startswith(f"{name} ")
    ]
    options = {option for command in found for one in command.params for option in one.opts}
    assert found
    assert {word for word in words if word.startswith("--")} <= options | OF_EVERY_PROGRAM


def check(words: list[str]) -> None:
    """Check one command; what stands before it are variables of its environment."""
    while words and (assignment := re.match(r"([A-Z_]+)=", words[0])):
        check_variable(assignment[1])
        words = words[1:]
    if not words:
        return
    program, *rest = words
    name = Path(program).name
    assert name in CHECKS, f"nobody checks {name}: add it to CHECKS"
    CHECKS[name](rest[: rest.index(">")] if ">" in rest else rest)


def check_variable(name: str) -> None:
    setting = name.removeprefix("LATENCY_SERVICE_")
    if setting != name:
        assert setting.lower() in Settings.model_fields
    else:
        compose = [*ROOT.glob("docker-compose.yml"), *(ROOT / "deploy").glob("*.yml")]
        assert any(f"${{{name}" in path.read_text() for path in compose)


def check_python(words: list[str]) -> None:
    if words[0] != "-m":
        if f"Save this as `{words[0]}`" in SENTENCES:
            return
        source = (ROOT / words[0]).read_text()
        missing = [word for word in words if word.startswith("--") and f'"{word}"' not in source]
        assert missing == []
        return
    assert importlib.util.find_spec(words[1]) is not None
    if words[1] == "benchmarks" and len(words) > 2:
        assert words[2] in {"NAME", *benchmarks()}


def check_pip(words: list[str]) -> None:
    assert words[0] in ("install", "uninstall")
    for extra in re.findall(r"latency-service\[(\w+)\]", " ".join(words)):
        assert extra in PYPROJECT["project"]["optional-dependencies"]


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{word}:", makefile, re.MULTILINE) for word in words)


def check_docker(words: list[str]) -> None:
    files = [words[i + 1] for i, word in enumerate(words) if word == "-f"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    scaled = [words[i + 1].split("=")[0] for i, word in enumerate(words) if word == "--scale"]
    assert words[0] == "compose"
    assert all((ROOT / name).is_file() for name in files)
    assert set(scaled) <= services.keys()


def check_kubectl(words: list[str]) -> None:
    assert (ROOT / words[words.index("-k") + 1] / "kustomization.yaml").is_file()


def check_torchrun(words: list[str]) -> None:
    rest = words[words.index("-m") + 1 :]
    assert rest.pop(0) == "pruning_client"
    check_command(rest, pruning_app)


def check_installed(package: str, words: list[str]) -> None:
    assert any(
        one.startswith(package) for one in PYPROJECT["project"]["optional-dependencies"]["dev"]
    )
    assert words


def check_curl(words: list[str]) -> None:
    """The address, the method and the names in the body are the service's."""
    (address,) = (word for word in words if word.startswith("http"))
    path = re.sub(r"^https?://[^/]+", "", address).partition("?")[0]
    data = words[words.index("-d") + 1] if "-d" in words else None
    method = "GET" if data is None else "POST"
    scope = {"type": "http", "path": path, "method": method, "headers": []}
    assert any(route.matches(scope)[0] == Match.FULL for route in service().routes)
    if data is not None:
        body = operation(path, method)["requestBody"]["content"]["application/json"]["schema"]
        assert json.loads(data).keys() <= body["properties"].keys()
        assert set(body["required"]) <= json.loads(data).keys()


def operation(path: str, method: str) -> dict[str, Any]:
    """The description of the operation at a path."""
    described: dict[str, Any] = service().openapi()
    for template, methods in described["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return resolved(methods[method.lower()], described)
    raise AssertionError(f"{path} is not described")


def resolved(value: Any, document: dict[str, Any]) -> Any:
    """A part of a description with its references followed."""
    if isinstance(value, list):
        return [resolved(one, document) for one in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[1]
        return resolved(document["components"]["schemas"][name], document)
    return {key: resolved(one, document) for key, one in value.items()}


@cache
def service() -> FastAPI:
    with tempfile.TemporaryDirectory() as folder:
        return create_app(Settings(data_dir=Path(folder)))


CHECKS = {
    "latency-service": check_command,
    "pruning-client": lambda words: check_command(words, pruning_app),
    "python": check_python,
    "python3": check_python,
    "pip": check_pip,
    "make": check_make,
    "docker": check_docker,
    "kubectl": check_kubectl,
    "torchrun": check_torchrun,
    "pre-commit": lambda words: check_installed("pre-commit", words),
    "curl": check_curl,
    "export": check,
}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Names for the blocks of a page: a network, its images, and functions that take long."""
    for name in CHECKED_FUNCTIONS:
        monkeypatch.setattr(pruning_client, name, checked(getattr(pruning_client, name)))
    page = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)  # dataclasses look for their module
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    page.__dict__.update(dict.fromkeys(GIVEN), model=network.eval())
    for prefix in ("", "val_"):
        page.__dict__[f"{prefix}images"] = torch.rand(4, 3, 16, 16)
        page.__dict__[f"{prefix}labels"] = torch.arange(4)
    return page.__dict__


@pytest.mark.parametrize("page", sorted({block.page for block in OF_PYTHON}))
def test_python_runs(page: str, world: dict[str, Any]) -> None:
    """The blocks of a page one after the other, as a reader would paste them."""
    for block in OF_PYTHON:
        if block.page == page:
            code = compile(block.text, str(block), "exec")
            exec(code, world)
            assert unknown_names(code, world) == set(), block


def unknown_names(code: types.CodeType, world: dict[str, Any]) -> set[str]:
    """Names that the functions of a block would not find."""
    used = {one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"}
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    below = set().union(*(unknown_names(one, world) for one in inner))
    return (used | below) - world.keys() - vars(builtins).keys()


def of_language(language: str) -> list[Any]:
    return [pytest.param(one, id=str(one)) for one in BLOCKS if one.language == language]


@pytest.mark.parametrize("block", of_language("toml"))
def test_toml_names_the_entry_points_of_methods(block: Block) -> None:
    assert GROUP in tomllib.loads(block.text)["project"]["entry-points"]


@pytest.mark.parametrize("block", of_language("yaml"))
def test_yaml_is_a_configuration_of_prometheus(block: Block) -> None:
    (job,) = yaml.safe_load(block.text)["scrape_configs"]
    assert {"job_name", "static_configs"} <= job.keys()


@pytest.mark.parametrize("block", of_language("json"))
def test_json_is_an_error(block: Block) -> None:
    assert json.loads(block.text)["error"].keys() == {"code", "message", "cure"}
