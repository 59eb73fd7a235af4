"""The conformance suite finds what is wrong: one method for each fault."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pruning_client import testing
from pruning_client.errors import UsageError
from pruning_client.execution.progress import ProgressEvent
from pruning_client.methods.base import Context, Picture, Selection
from pruning_client.methods.magnitude import allocate, l1_scores
from pruning_client.testing import CHECKS, ConformanceError, Subject, check_method

#: Changes what a sound method returns, or the network.
Fault = Callable[[Context, Selection], Selection]
_CALLS = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """The L1 norm with a fault."""

    fault: str = "none"

    @property
    def name(self) -> str:
        return "faulty"

    def run(self, context: Context) -> Selection:
        found = allocate(context, l1_scores(context.model, context.traced), "threshold")
        return FAULTS[self.fault](context, found)


def first_group(selection: Selection, **changes: Callable[[Any], Any]) -> Selection:
    """A selection with `keep` or `scores` of the first group changed."""
    changed = {
        name: [change(getattr(selection, name)[0]), *getattr(selection, name)[1:]]
        for name, change in changes.items()
    }
    return replace(selection, **changed)


def trained(context: Context, selection: Selection, value: float = 0.5) -> Selection:
    with torch.no_grad():
        next(context.model.parameters()).mul_(value)
    return selection


def dense(context: Context, selection: Selection) -> Selection:
    return replace(selection, keep=[np.arange(len(score)) for score in selection.scores])


def hooked(context: Context, selection: Selection) -> Selection:
    context.model.register_forward_hook(lambda *_: None)
    return selection


def frozen(context: Context, selection: Selection) -> Selection:
    next(context.model.parameters()).requires_grad_(False)
    return selection


def grown(context: Context, selection: Selection) -> Selection:
    context.model.register_buffer("more", torch.zeros(1))
    return selection


def judged(context: Context, selection: Selection) -> Selection:
    if context.evaluate is None:
        return selection
    return trained(context, selection, context.evaluate(context.model) / 200)


def drawn(_context: Context, selection: Selection) -> Selection:
    return first_group(selection, scores=lambda score: score * (1 + next(_CALLS)))


def forgetful(context: Context, selection: Selection) -> Selection:
    """Trains in two steps that no other run repeats."""
    for done in (1, 2):
        context.progress(ProgressEvent(phase="train", done=done, total=2))
        trained(context, selection, 1 + next(_CALLS))
    return selection


def late(context: Context, selection: Selection) -> Selection:
    trained(context, selection)
    raise UsageError("This network cannot be pruned.", "Give another.")


def early(_context: Context, _selection: Selection) -> Selection:
    raise UsageError("This network cannot be pruned.", "Give another.")


FAULTS: dict[str, Fault] = {
    "none": lambda _context, selection: selection,
    "widths off the lattice": lambda _c, s: first_group(s, keep=lambda keep: keep[:-1]),
    "no channels": lambda _c, s: first_group(s, keep=lambda keep: keep[:0]),
    "channel twice": lambda _c, s: first_group(
        s, keep=lambda keep: keep[[0, *range(len(keep) - 1)]]
    ),
    "descending": lambda _c, s: first_group(s, keep=lambda keep: keep[::-1]),
    "over budget": dense,
    "score of zero": lambda _c, s: first_group(s, scores=lambda score: score * 0),
    "score not finite": lambda _c, s: first_group(s, scores=lambda score: score + np.inf),
    "other channels than the scores'": lambda _c, s: first_group(s, scores=lambda score: 1 / score),
    "a group without scores": lambda _c, s: replace(s, scores=s.scores[1:]),
    "history": lambda _c, s: replace(s, history=[{"loss": float("nan")}]),
    "facts": lambda _c, s: replace(s, facts={"clusters": np.int64(3)}),
    "pictures": lambda _c, s: replace(s, pictures=[Picture(title="t", note="n", png=b"GIF89a")]),
    "weights not finite": lambda c, s: trained(c, s, float("nan")),
    "hook left": hooked,
    "weight frozen": frozen,
    "buffer added": grown,
    "held-out data": judged,
    "seed": drawn,
    "resume": forgetful,
    "refused": early,
    "refused late": late,
}
#: Check that finds each fault, and a part of what it says.
FOUND = {
    "widths off the lattice": ("residual", "not on the lattice"),
    "no channels": ("residual", "are not in 0 to"),
    "channel twice": ("residual", "not ascending"),
    "descending": ("residual", "not ascending"),
    "over budget": ("residual", "for a target of"),
    "score of zero": ("residual", "not positive"),
    "score not finite": ("residual", "not finite"),
    "other channels than the scores'": ("residual", "the highest scores are those of"),
    "a group without scores": ("residual", "scores of every group"),
    "history": ("residual", "the history cannot be put into a report"),
    "facts": ("residual", "the facts cannot be put into a report"),
    "pictures": ("residual", "is not a `Picture`"),
    "weights not finite": ("residual", "holds values that are not finite"),
    "hook left": ("residual", "module ''"),
    "weight frozen": ("residual", "tensor 'stem.0.weight' was"),
    "buffer added": ("residual", "more"),
    "held-out data": ("held-out", "gives other weights"),
    "seed": ("seed", "gives another selection"),
    "resume": ("resume", "stopped and resumed gives"),
    "refused": ("vgg", "not among Subject.refuses"),
    "refused late": ("vgg", "not among Subject.refuses"),
}


def test_a_sound_method_passes() -> None:
    check_method(Faulty())


def test_every_fault_is_looked_for() -> None:
    assert FAULTS.keys() == FOUND.keys() | {"none"}


@pytest.mark.parametrize("fault", FOUND)
def test_a_fault_is_found(fault: str) -> None:
    check, said = FOUND[fault]
    with pytest.raises(ConformanceError) as caught:
        CHECKS[check](Subject(method=Faulty(fault=fault)))
    assert said in str(caught.value)


def test_a_declared_refusal_passes_if_it_comes_before_training() -> None:
    refuses = frozenset({"vgg"})
    CHECKS["vgg"](Subject(method=Faulty(fault="refused"), refuses=refuses))
    with pytest.raises(ConformanceError, match="refused too late"):
        CHECKS["vgg"](Subject(method=Faulty(fault="refused late"), refuses=refuses))
    with pytest.raises(ConformanceError, match="does not raise PruningError"):
        CHECKS["vgg"](Subject(method=Faulty(), refuses=refuses))


@dataclass(frozen=True, kw_only=True)
class Lenient(Faulty):
    def run(self, context: Context) -> Selection:
        return super().run(replace(context, target_ms=2 * context.predictor.sidecar.dense_ms))


def test_a_budget_out_of_reach_has_to_be_refused() -> None:
    with pytest.raises(ConformanceError, match="does not raise BudgetError"):
        CHECKS["budget"](Subject(method=Lenient()))


@dataclass(frozen=True, kw_only=True)
class Unnamed(Faulty):
    @property
    def name(self) -> str:
        return "two words"


@dataclass(frozen=True, kw_only=True)
class Required:
    epochs: int

    name = "required"

    def run(self, context: Context) -> Selection:
        raise NotImplementedError


@dataclass(frozen=True)
class Positional(Faulty):
    epochs: int = 1


@dataclass(kw_only=True)
class Mutable:
    epochs: int = 1

    name = "mutable"

    def run(self, context: Context) -> Selection:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class NotPlain(Faulty):
    network: type[nn.Module] = nn.Identity


@pytest.mark.parametrize(
    ("method", "check", "said"),
    [
        (Unnamed(), "name", "not one printable word"),
        (Required(epochs=1), "options", "has no default"),
        (Positional(), "options", "not keyword-only"),
        (Mutable(), "options", "not frozen"),
        (NotPlain(), "options", "not plain values"),
    ],
)
def test_faults_of_the_class_are_found(method: Any, check: str, said: str) -> None:
    with pytest.raises(ConformanceError, match=said):
        CHECKS[check](Subject(method=method))


def test_the_suite_needs_no_pytest() -> None:
    folder = Path(testing.__file__).parent
    imported = {
        name.name
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for name in node.names
    } | {
        str(node.module)
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    assert "pruning_client.methods.base" in imported
    assert not any(name.startswith(("pytest", "_pytest")) for name in imported)
