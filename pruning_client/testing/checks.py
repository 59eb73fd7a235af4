"""The checks of the conformance suite."""

from __future__ import annotations

import copy
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from pruning_client.errors import BudgetError, PruningError
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import ProgressEvent
from pruning_client.methods import registry
from pruning_client.methods.base import Context, Method, Selection
from pruning_client.testing.cases import FAMILIES, Case, make_case
from pruning_client.testing.errors import ConformanceError, require
from pruning_client.testing.results import check_model, check_same, check_selection, state_of

#: Family of the checks that are made on one network only.
_PLAIN = "residual"
#: Budgets between the lowest latency (0) and the dense network's (1).
_SHARES = (0.3, 0.7)
#: Share of the progress events after which a job is stopped, to be resumed.
_STOPPED_AT = 0.6


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A method under test."""

    #: The method with options for short training, such as one epoch.
    method: Method
    #: Names in `FAMILIES` that the method cannot prune: it has to raise a `PruningError` there
    #: before it changes the network.
    refuses: frozenset[str] = frozenset()
    #: Torch device of the network.
    device: str = "cpu"


#: Raises a ConformanceError where a method does not do what is expected.
Check = Callable[[Subject], None]


class _StoppedJob(BaseException):
    """Ends a job in the middle, as a signal does."""


def check_name(subject: Subject) -> None:
    """The name can be typed on the command line, and is that of the registry."""
    name = subject.method.name
    require(isinstance(name, str), f"the name is {type(name).__name__}, not a string")
    is_word = bool(name) and name.isprintable() and not any(map(str.isspace, name))
    require(is_word, f"the name {name!r} is not one printable word")
    require(not name.startswith("-"), f"the name {name!r} would be read as an option")


def check_options(subject: Subject) -> None:
    """The method is a frozen dataclass; its options survive copies, reports and the registry."""
    method = subject.method
    kind = type(method)
    require(is_dataclass(method), f"{kind.__name__} is not a dataclass")
    frozen = method.__dataclass_params__.frozen  # type: ignore[attr-defined]
    require(frozen, f"{kind.__name__} is not frozen")
    required = [field.name for field in fields(method) if not field.kw_only]
    require(not required, f"the options {required} are not keyword-only")
    _check_defaults(kind)
    options = registry.options_of(method)
    require(kind(**options) == method, "the options do not give the same method again")
    require(copy.deepcopy(method) == method, "a copy of the method is not equal to it")
    _check_plain(options)
    if method.name in registry.METHODS:
        made = registry.method_of(method.name, **options)
        require(made == method, f"the registry's {method.name!r} with these options differs")


def _check_defaults(kind: type[Method]) -> None:
    try:
        replace(kind())
    except TypeError as error:
        raise ConformanceError(f"{kind.__name__}() fails, an option has no default") from error


def _check_plain(options: Mapping[str, object]) -> None:
    try:
        json.dumps(options)
    except TypeError as error:
        raise ConformanceError(f"options are not plain values: {error}") from error


def check_family(family: str, subject: Subject) -> None:
    """The method prunes a network of a family to a budget, or refuses it at once if it says so."""
    case = make_case(family)
    for share in _SHARES if family == _PLAIN else _SHARES[-1:]:
        context = case.context(share, device=subject.device)
        if family in subject.refuses:
            _check_refused(subject, context, family)
        else:
            _check_pruned(subject, context, family)


def _check_pruned(subject: Subject, context: Context, family: str) -> None:
    before = state_of(context.model)
    try:
        selection = _run(subject, context)
    except PruningError as error:
        raise ConformanceError(
            f"the method refuses {family!r}, which is not among Subject.refuses: {error}"
        ) from error
    check_selection(selection, context)
    check_model(context.model, before)


def _check_refused(subject: Subject, context: Context, family: str) -> None:
    _expect(PruningError, subject, context, f"the family {family!r}, which Subject.refuses names")


def check_budget(subject: Subject) -> None:
    """A budget below the lowest latency is refused before anything is trained."""
    case = make_case(_PLAIN)
    context = replace(
        case.context(0.0, device=subject.device), target_ms=0.5 * case.predictor.sidecar.lowest_ms
    )
    _expect(BudgetError, subject, context, "a budget that cannot be reached")


def _expect(kind: type[PruningError], subject: Subject, context: Context, of: str) -> None:
    before = {name: value.clone() for name, value in context.model.state_dict().items()}
    try:
        _run(subject, context)
    except kind:
        after = context.model.state_dict()
        changed = [name for name in before if not torch.equal(before[name], after[name])]
        require(not changed, f"{of} is refused too late: {changed[:1]} has changed")
        return
    raise ConformanceError(f"the method does not raise {kind.__name__} for {of}")


def check_seed(subject: Subject) -> None:
    """The same seed gives the same selection and the same weights."""
    case = make_case(_PLAIN)
    first = _result(subject, case.context(_SHARES[0], device=subject.device))
    second = _result(subject, case.context(_SHARES[0], device=subject.device))
    check_same(first, second, "a second run with the same seed")


def check_held_out(subject: Subject) -> None:
    """Held-out data, which `evaluate` measures, decide nothing."""
    case = make_case(_PLAIN)
    falling = iter(range(100_000, 0, -1))

    def evaluate(_model: nn.Module) -> float:
        return next(falling) / 1000

    without = _result(subject, case.context(_SHARES[0], device=subject.device))
    context = case.context(_SHARES[0], evaluate=evaluate, device=subject.device)
    check_same(without, _result(subject, context), "a run with another `Context.evaluate`")


def check_resume(subject: Subject) -> None:
    """A job that is stopped and resumed gives the result of one that is not."""
    case = make_case(_PLAIN)
    with tempfile.TemporaryDirectory() as folder:
        whole, events = _counted(subject, case, Path(folder) / "whole")
        if not events:
            return
        stopped = Path(folder) / "stopped"
        _stop(subject, case, stopped, after=math.ceil(_STOPPED_AT * events))
        journal = Journal(stopped, resume=True)
        context = case.context(_SHARES[0], journal=journal, device=subject.device)
        check_same(whole, _result(subject, context), "a job that was stopped and resumed")


def _counted(subject: Subject, case: Case, folder: Path) -> tuple[tuple[Selection, nn.Module], int]:
    """Result of a whole run, and its number of progress events."""
    events = list[ProgressEvent]()
    context = case.context(
        _SHARES[0], progress=events.append, journal=Journal(folder), device=subject.device
    )
    return _result(subject, context), len(events)


def _stop(subject: Subject, case: Case, folder: Path, *, after: int) -> None:
    """Run until a number of progress events."""
    left = iter(range(after, 0, -1))

    def progress(_event: ProgressEvent) -> None:
        if next(left) == 1:
            raise _StoppedJob

    context = case.context(
        _SHARES[0], progress=progress, journal=Journal(folder), device=subject.device
    )
    try:
        _run(subject, context)
    except _StoppedJob:
        return
    raise ConformanceError("the method catches what ends the job (a BaseException of `progress`)")


def _result(subject: Subject, context: Context) -> tuple[Selection, nn.Module]:
    return _run(subject, context), context.model


def _run(subject: Subject, context: Context) -> Selection:
    """Run the method as a job does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.training.seed)
        return subject.method.run(context)


#: Every check by name.
CHECKS: Mapping[str, Check] = {
    "name": check_name,
    "options": check_options,
    "budget": check_budget,
    **{family: partial(check_family, family) for family in FAMILIES},
    "seed": check_seed,
    "held-out": check_held_out,
    "resume": check_resume,
}


def check_method(
    method: Method, *, refuses: frozenset[str] = frozenset(), device: str = "cpu"
) -> None:
    """Run every check of `CHECKS`.

    Args:
        method: The method, with options for short training.
        refuses: As in `Subject`.
        device: Torch device of the networks.

    Raises:
        ConformanceError: The method does something else than the interface says; the first fault.
    """
    subject = Subject(method=method, refuses=refuses, device=device)
    for check in CHECKS.values():
        check(subject)
