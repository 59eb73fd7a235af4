"""``pruning-client prune``: options become settings, and the command that a report shows becomes
the same settings again.
"""

from __future__ import annotations

import contextlib
import errno
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from safetensors.torch import save_model

from pruning_client.cli.options import Options
from pruning_client.pipeline.settings import JobRequest
from pruning_client.training.metrics import Determination, MeanIou, MultiLabelF1
from tests.support.outcomes import Run
from tests.support.reparameterised import fuse
from tests.support.tiny_networks import tiny_net

MODEL = ("--model", "tests.support.tiny_networks:tiny_net")
#: Options that a report leaves out: where the job ran and how its result was printed.
NOT_SHOWN = {"server", "token"}
TOKEN = "canary-token-0123456789"


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[JobRequest, str]]:
    """What the command asks for, in place of the job."""
    found: list[tuple[JobRequest, str]] = []

    def asked(request: JobRequest, budget: str, **_more: Any) -> None:
        found.append((request, budget))
        raise typer.Exit(0)

    @contextlib.contextmanager
    def nobody(*_arguments: Any, **_more: Any) -> Iterator[None]:
        yield None

    monkeypatch.setattr("pruning_client.pipeline.prune.prune_request", asked)
    monkeypatch.setattr("pruning_client.service.connection.connected", nobody)
    return found


@pytest.fixture
def every_option(tmp_path: Path) -> dict[str, str | None]:
    """Every shared option but those of the method, away from its default."""
    weights = tmp_path / "the weights.safetensors"
    save_model(tiny_net(), str(weights))
    classes = tmp_path / "the classes.txt"
    classes.write_text("zebra\naye-aye\n")
    return {
        "--weights": str(weights),
        "--deploy": "tests.support.reparameterised:fuse",
        "--val-data": "held out/it's.parquet",
        "--image-size": "8",
        "--mean": "-0.5",
        "--std": "0.25",
        "--classes": str(classes),
        "--no-augment": None,
        "--transform": "PIL.ImageOps:invert",
        "--train-transform": "PIL.ImageOps:mirror",
        "--data-workers": "3",
        "--recipe": "regression",
        "--micro-batch": "5",
        "--target-provider": "CUDAExecutionProvider",
        "--target-threads": "3",
        "--target-batch": "5",
        "--target-precision": "int8",
        "--int8-calibration": "minmax",
        "--int8-images": "33",
        "--int8-max-drop": "0.0",
        "--int8-float-layer": "block.conv1",
        "--int8-aware-epochs": "2",
        "--finetune-epochs": "0",
        "--no-compensation": None,
        "--train-batch-size": "17",
        "--train-precision": "bfloat16",
        "--torch-device": "cpu",
        "--seed": "5",
        "--no-campaign": None,
        "--architectures": "11",
        "--error-goal": "2.5%",
        "--predictor-source": "served",
        "--predictor-id": "p1",
        "--verification-time": "90s",
    }


TARGETS = ("--target", "board", "--target", "a phone")


def words_of(options: dict[str, str | None]) -> list[str]:
    return [word for pair in options.items() for word in pair if word is not None]


@pytest.mark.parametrize(
    "method",
    [
        ("--method", "free-gates", "--epochs", "7", "--loss", "log1p"),
        ("--method", "dcp-2", "--epochs", "7", "--method-option", "start=scratch"),
        ("--method", "l1", "--allocator", "uniform"),
        ("--method", "most-macs"),
        ("--method", "gdp", "--epochs", "9", "--loss", "abs", "--method-option", "blocks=true"),
        ("--method", "scop", "--allocator", "greedy", "--method-option", "knockoffs=gaussian"),
        ("--method", "meta-pruning", "--method-option", "start=scratch"),
        ("--method", "pfp", "--method-option", "mode=mixed", "--method-option", "images=64"),
        ("--method", "functionality", "--method-option", "clusters=0.25"),
        ("--method", "w-gates", "--method-option", "rho=2", "--method-option", "loss=abs"),
    ],
)
def test_the_command_of_a_report_asks_for_the_same_job(
    run: Run,
    requests: list[tuple[JobRequest, str]],
    every_option: dict[str, str | None],
    method: tuple[str, ...],
) -> None:
    secret = ("--token", TOKEN, "--server", "http://127.0.0.1:9", "--json")
    given = (*MODEL, "--data", "my data", *words_of(every_option), *TARGETS, *method, *secret)
    outcome = run("prune", "--budget", "60%", *given)
    assert outcome.code == 0, outcome.err
    ((first, budget),) = requests
    command = first.command(budget)
    assert TOKEN not in command
    program, *words = shlex.split(command)
    assert program == "pruning-client"
    assert run(*words).code == 0
    again, budget_again = requests[1]
    assert budget_again == budget == "60%"
    assert again.settings == first.settings
    assert again.deploy is first.deploy is fuse
    assert (again.data, again.val_data) == (first.data, first.val_data)
    assert again.command(budget) == command


def test_no_option_is_forgotten(every_option: dict[str, str | None]) -> None:
    covered = {name.removeprefix("--no-").strip("-").replace("-", "_") for name in every_option}
    rest = {"model", "data", "target", "method", "method_option", "epochs", "loss", "allocator"}
    assert covered | rest | NOT_SHOWN == {entry.name for entry in fields(Options)}


def test_defaults_are_left_out(run: Run, requests: list[tuple[JobRequest, str]]) -> None:
    assert run("prune", *MODEL, "--data", "digits", "--budget", "1.2ms").code == 0
    ((request, budget),) = requests
    assert request.command(budget) == (
        f"pruning-client prune --budget 1.2ms --model {MODEL[1]} --data digits"
    )


@pytest.mark.parametrize(
    ("method", "option", "cure"),
    [
        ("l1", ("--epochs", "3"), "Its options: --allocator, --method-option with criterion."),
        (
            "group-norm",
            ("--loss", "log1p"),
            "Its options: --allocator, --method-option with criterion.",
        ),
        (
            "w-gates",
            ("--allocator", "greedy"),
            "Its options: --epochs, --loss, --method-option with ",
        ),
        ("most-macs", ("--epochs", "3"), "It has no options."),
        ("uniform", ("--allocator", "greedy"), "It has no options."),
        ("pfp", ("--epochs", "3"), "Its options: --method-option with mode, images, delta."),
    ],
)
def test_an_option_that_the_method_does_not_have(
    run: Run,
    requests: list[tuple[JobRequest, str]],
    method: str,
    option: tuple[str, str],
    cure: str,
) -> None:
    words = ("prune", *MODEL, "--data", "digits", "--budget", "60%", "--method", method, *option)
    outcome = run(*words)
    assert (outcome.code, outcome.out, requests) == (2, "", [])
    assert f"The method {method!r} has no option {option[0]}." in outcome.err
    assert cure in outcome.err


@pytest.mark.parametrize(
    ("reference", "metric"),
    [
        ("segmentation", MeanIou),
        ("pruning_client.training.recipes:multi_label", MultiLabelF1),
        ("tests.support.tasks:RECIPE", Determination),
    ],
)
def test_recipes_and_data_of_the_users_own(
    run: Run, requests: list[tuple[JobRequest, str]], reference: str, metric: type
) -> None:
    data = ("--data", "tests.support.tiny_networks:digits", "--recipe", reference)
    outcome = run("prune", *MODEL, *data, "--budget", "60%")
    assert outcome.code == 0, outcome.err
    ((request, _),) = requests
    assert request.settings.training.recipe.metric is metric
    assert request.data[1].shape == (1797,)


@pytest.mark.parametrize(
    ("option", "code", "cause"),
    [
        (
            ("--recipe", "keypoints"),
            2,
            "classification, segmentation, multi-label, regression",
        ),
        (("--recipe", "builtins:dict"), 2, "is no recipe but dict"),
        (("--recipe", "nowhere:recipe"), 6, "No module named 'nowhere'"),
        (("--data", "tests.support.tasks:nothing"), 6, "has no attribute 'nothing'"),
        (("--transform", "math:pi"), 2, "'math:pi' is no function but float"),
        (("--recipe", "math:exp"), 6, "The recipe 'math:exp' cannot be created"),
        (("--classes", "/nowhere.txt"), 6, "/nowhere.txt cannot be read"),
    ],
)
def test_what_is_no_recipe_function_or_file(
    run: Run,
    requests: list[tuple[JobRequest, str]],
    option: tuple[str, str],
    code: int,
    cause: str,
) -> None:
    words = {"--data": "digits", **dict([option])}
    outcome = run("prune", *MODEL, "--budget", "60%", *(w for pair in words.items() for w in pair))
    assert (outcome.code, requests) == (code, [])
    assert cause in " ".join(outcome.err.split())


def test_options_of_images_in_files_are_refused_for_other_data(
    run: Run, requests: list[tuple[JobRequest, str]]
) -> None:
    data = ("--data", "tests.support.tiny_networks:digits", "--image-size", "8")
    outcome = run("prune", *MODEL, *data, "--budget", "60%")
    assert (outcome.code, requests) == (2, [])
    assert "--image-size prepares images in files" in outcome.err


def test_a_full_disk_is_told_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **_more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/x/y")

    monkeypatch.setattr("pruning_client.pipeline.prune.prune_request", fails)
    outcome = run("prune", *MODEL, "--data", "x.parquet", "--budget", "60%")
    assert outcome.code == 1
    assert "/x/y: No space left on device." in outcome.err
    assert "--resume" in outcome.err
    assert "Traceback" not in outcome.err
