"""``pruning-client compare-methods``: what its options ask for, and its exit codes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pruning_client.cli.compare_methods import methods_from
from pruning_client.errors import UsageError
from pruning_client.methods.base import Method
from pruning_client.methods.magnitude import Magnitude, Uniform
from pruning_client.methods.registry import METHODS
from pruning_client.methods.w_gates import FreeGates, WGates
from pruning_client.pipeline.settings import JobRequest
from pruning_client.reports.schema import Outcome
from tests.support.contests import contest, entry, result
from tests.support.outcomes import Run

COMMON = (
    "compare-methods",
    "--model",
    "tests.support.tiny_networks:tiny_net",
    "--data",
    "tests.support.tiny_networks:digits",
)


class Asked:
    """What the command asks for, in place of a contest."""

    def __init__(self) -> None:
        self.outcome: Outcome = "met"
        self.request: JobRequest | None = None
        self.budgets: list[str] = []
        self.methods: list[Method] = []
        self.more: dict[str, Any] = {}

    def __call__(
        self, request: JobRequest, budgets: list[str], methods: Sequence[Method], **more: Any
    ) -> Any:
        self.request, self.budgets, self.methods, self.more = request, budgets, [*methods], more
        return contest([entry("l1", result(90.0, outcome=self.outcome))])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()

    @contextlib.contextmanager
    def nobody(*_arguments: Any, **_more: Any) -> Iterator[None]:
        yield None

    monkeypatch.setattr("pruning_client.pipeline.contest.contest.contest_request", found)
    monkeypatch.setattr("pruning_client.service.connection.connected", nobody)
    return found


def test_names_and_budgets_are_lists(run: Run, asked: Asked, tmp_path: Path) -> None:
    options = ("--methods", "w-gates, l1", "--epochs", 2, "--seeds", 3, "--seed", 5)
    outcome = run(
        *COMMON, *options, "--budget", "60%,0.5ms", "--budget", "800us", "--out", tmp_path
    )
    assert outcome.code == 0, outcome.err
    assert asked.budgets == ["60%", "0.5ms", "800us"]
    assert asked.methods == [WGates(epochs=2), Magnitude(criterion="l1")]
    assert asked.more["seeds"] == 3
    assert asked.request is not None
    assert asked.request.settings.training.seed == 5
    assert str(tmp_path / "contest.html") in outcome.out
    assert "90.00" in outcome.out
    # the reports name the command that makes them again
    command = asked.request.command("60%")
    assert command.startswith("pruning-client compare-methods --methods 'w-gates, l1' --seeds 3")
    assert "--budget 60%" in command
    assert "--epochs 2" in command


def test_by_default_all_methods_take_part(run: Run, asked: Asked) -> None:
    assert run(*COMMON, "--budget", "60%", "--json").json["methods"] == ["l1"]
    assert asked.methods == [method for name, method in METHODS.items() if name != "dcph"]


@pytest.mark.parametrize(("outcome", "code"), [("met", 0), ("not met", 1), ("not decided", 9)])
def test_the_exit_code_is_that_of_the_worst_budget(
    run: Run, asked: Asked, outcome: Outcome, code: int
) -> None:
    asked.outcome = outcome
    assert run(*COMMON, "--budget", "60%").code == code


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--methods", "magic", "--budget", "60%"), "There is no method 'magic'"),
        (("--methods", "l1", "--epochs", "2", "--budget", "60%"), "None of the methods"),
        (("--method", "l1", "--budget", "60%"), "No such option"),
        (("--methods", "l1"), "--budget"),
    ],
)
def test_options_that_are_refused(
    run: Run, asked: Asked, options: tuple[str, ...], said: str
) -> None:
    outcome = run(*COMMON, *options)
    assert outcome.code == 2
    assert said in " ".join(outcome.err.split())
    assert asked.request is None


def test_an_option_reaches_the_methods_that_have_it() -> None:
    found = methods_from("all", {"epochs": 3, "loss": None, "allocator": "greedy"})
    by_name = {method.name: method for method in found}
    assert sorted(by_name) == sorted(set(METHODS) - {"dcph"}), "one prunes a wider network"
    assert by_name["w-gates"] == replace(WGates(), epochs=3)
    assert by_name["free-gates"] == replace(FreeGates(), epochs=3)
    assert by_name["l2"] == Magnitude(criterion="l2", allocator="greedy")
    assert by_name["uniform"] == Uniform()
    with pytest.raises(UsageError, match="None of the methods has the option --loss"):
        methods_from("l1,uniform", {"loss": "abs"})
