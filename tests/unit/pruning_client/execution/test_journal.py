"""A stopped job that is resumed ends as if it had not been stopped."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from pruning_client.errors import UsageError
from pruning_client.execution.journal import Journal


def test_answers_come_back_in_their_order(tmp_path: Path) -> None:
    first = Journal(tmp_path / "c")
    assert first.value("a", int, lambda: 1) == 1
    assert first.data("b", lambda: b"\x00\xff") == b"\x00\xff"
    again = Journal(tmp_path / "c", resume=True)
    assert again.resumes
    assert again.value("a", int, lambda: 2) == 1
    assert again.data("b", lambda: b"") == b"\x00\xff"
    assert not again.resumes
    assert again.value("c", int, lambda: 3) == 3


def test_another_question_is_another_job(tmp_path: Path) -> None:
    Journal(tmp_path / "c").value("a", int, lambda: 1)
    with pytest.raises(UsageError, match="belongs to another job") as caught:
        Journal(tmp_path / "c", resume=True).value("b", int, lambda: 1)
    assert "--resume" in caught.value.cure
    Journal(tmp_path / "d").check("x")
    with pytest.raises(UsageError, match="other settings, data, weights"):
        Journal(tmp_path / "d", resume=True).check("y")


def test_without_resume_everything_is_asked_anew(tmp_path: Path) -> None:
    Journal(tmp_path / "c").value("a", int, lambda: 1)
    assert Journal(tmp_path / "c").value("a", int, lambda: 2) == 2


def test_closed_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "c")
    journal.save("x", {"w": torch.ones(2)}, {})
    journal.close()
    assert not (tmp_path / "c").exists()


def test_random_numbers_go_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "c")
    torch.manual_seed(3)
    journal.save("x", {"w": torch.ones(2)}, {"done": 5})
    expected = torch.rand(3)
    torch.manual_seed(9)
    found = journal.load("x")
    assert found is not None
    assert found[1] == {"done": 5}
    assert torch.equal(torch.rand(3), expected)


def test_keys_that_are_no_strings_come_back_as_they_were(tmp_path: Path) -> None:
    """A schedule's milestones are numbers."""
    values = {"milestones": Counter({30: 1, 60: 2}), "nested": [{"a": {1.5: "x"}}], "plain": {}}
    journal = Journal(tmp_path / "c")
    journal.save("x", {}, values)
    found = journal.load("x")
    assert found is not None
    assert found[1] == values
