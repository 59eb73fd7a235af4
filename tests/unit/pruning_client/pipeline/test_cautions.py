"""Warnings of a job."""

from __future__ import annotations

import warnings

import pytest

from pruning_client.errors import PruningWarning
from pruning_client.pipeline import cautions


def _gathered() -> list[str]:
    with cautions.gathered() as told:
        warnings.warn("something is lost", PruningWarning, stacklevel=1)
        warnings.warn("of torch", UserWarning, stacklevel=1)
    return told


def test_our_own_warnings_are_gathered_and_others_are_shown() -> None:
    with pytest.warns(UserWarning, match="of torch") as shown:
        assert _gathered() == ["something is lost"]
    assert [str(one.message) for one in shown] == ["of torch"]


def test_a_quality_that_has_collapsed_is_said() -> None:
    assert "The pruned network has 0.1 %" in str(cautions.of_collapse(97.2, 0.14))
    assert cautions.of_collapse(97.2, 60) is None
    assert cautions.of_collapse(-3.0, -5.0) is None


def _history(*losses: float, mixed: int | None = None) -> list[dict[str, object]]:
    return [
        {"phase": "fine-tune", "mixed_loss" if at == mixed else "loss": loss}
        for at, loss in enumerate(losses)
    ]


def test_a_loss_that_ends_far_above_its_lowest_is_said() -> None:
    """That of mixed images is another loss."""
    assert "diverged" in str(cautions.of_divergence(_history(1.0, 0.2, 3.0), "fine-tune"))
    assert cautions.of_divergence(_history(1.0, 0.2, 3.0, mixed=2), "fine-tune") is None
    assert cautions.of_divergence(_history(1.0, 0.2, 0.2), "fine-tune") is None


def test_one_class_is_one_class() -> None:
    assert cautions._classes(["cat"]) == "one class, 'cat'"
    assert "from 'cat' as output 0 to 'dog' as output 1" in cautions._classes(["cat", "dog"])
