"""Readiness: what is asked of the database, and how often."""

from __future__ import annotations

import threading

import pytest

from latency_service.web import readiness
from latency_service.web.readiness import FRESH_SECONDS, Obstacle, Readiness

FULL = Obstacle(code="database_full", message="It is full.", cure="Free space.")


class Looks:
    """Stands for the look at the database."""

    def __init__(self) -> None:
        self.count = 0
        self.found: Obstacle | None = None
        self.now = 100.0

    def __call__(self, _: object) -> Obstacle | None:
        self.count += 1
        return self.found


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    made = Looks()
    monkeypatch.setattr(readiness, "look", made)
    return made


def ready(looks: Looks) -> Readiness:
    return Readiness(None, clock=lambda: looks.now)  # type: ignore[arg-type]


def test_a_finding_stands_for_a_while(looks: Looks) -> None:
    asked = ready(looks)
    assert [asked.obstacle() for _ in range(100)] == [None] * 100
    assert looks.count == 1
    looks.found = FULL
    assert asked.obstacle() is None
    looks.now += FRESH_SECONDS + 0.01
    assert asked.obstacle() is FULL
    looks.found = None
    looks.now += FRESH_SECONDS + 0.01
    assert asked.obstacle() is None
    assert looks.count == 3


def test_others_do_not_wait_for_a_slow_look(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ready(looks)
    assert asked.obstacle() is None
    begun, end = threading.Event(), threading.Event()

    def slow(_: object) -> Obstacle:
        begun.set()
        assert end.wait(30)
        return FULL

    monkeypatch.setattr(readiness, "look", slow)
    looks.now += FRESH_SECONDS + 0.01
    thread = threading.Thread(target=asked.obstacle)
    thread.start()
    assert begun.wait(30)
    assert asked.obstacle() is None
    end.set()
    thread.join(30)
    assert asked.obstacle() is FULL
