from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from latency_service.jobs import waiting
from latency_service.jobs.waiting import Poll, WaitingPolls

LONG = 30.0


def waited(poll: Poll, act: Callable[[], None], seconds: float = LONG) -> bool:
    """Whether the poll tries to claim after `act`, which happens while it waits."""

    async def run() -> bool:
        waits = asyncio.create_task(poll.wait(time.monotonic() + seconds))
        await asyncio.sleep(0)
        act()
        return await waits

    return in_loop(run())


def in_loop(coroutine: Coroutine[Any, Any, bool]) -> bool:
    return asyncio.run(coroutine)


def known(polls: WaitingPolls, agent_id: str, device_id: str) -> Poll:
    poll = polls.begin(agent_id)
    polls.belongs_to(poll, device_id)
    return poll


def test_work_of_its_device_wakes_a_poll() -> None:
    polls = WaitingPolls()
    poll = known(polls, "a", "board")
    assert waited(poll, lambda: polls.wake(["elsewhere", "board"]))


def test_work_of_another_device_wakes_nobody() -> None:
    polls = WaitingPolls()
    poll = known(polls, "a", "board")
    assert not waited(poll, lambda: polls.wake(["elsewhere"]), seconds=0.05)


def test_work_that_comes_before_it_waits_is_not_missed() -> None:
    polls = WaitingPolls()
    poll = known(polls, "a", "board")
    polls.wake(["board"])
    assert waited(poll, lambda: None)


def test_an_agents_second_poll_ends_its_first() -> None:
    polls = WaitingPolls()
    first = known(polls, "a", "board")
    assert not waited(first, lambda: polls.end(polls.begin("a")))
    assert first.is_over


def test_the_end_of_the_first_poll_leaves_the_second() -> None:
    polls = WaitingPolls()
    first = known(polls, "a", "board")
    second = known(polls, "a", "board")
    polls.end(first)
    assert waited(second, lambda: polls.wake(["board"]))


def test_only_an_agent_that_is_new_to_the_process_looks_twice() -> None:
    polls = WaitingPolls()
    assert polls.belongs_to(polls.begin("a"), "board")
    assert not polls.belongs_to(polls.begin("a"), "board")


def test_polls_that_have_ended_are_forgotten() -> None:
    polls = WaitingPolls()
    for agent in ("a", "b"):
        polls.end(known(polls, agent, "board"))
    assert polls.is_empty


def test_a_service_that_stops_sends_everybody_home() -> None:
    polls = WaitingPolls()
    poll = known(polls, "a", "board")
    assert not waited(poll, polls.close)
    began = time.monotonic()
    assert not waited(polls.begin("b"), lambda: None)
    assert time.monotonic() - began < LONG / 2
    assert polls.is_empty


def test_work_that_an_agent_cannot_take_wakes_it_once_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "REST_SECONDS", 0.2)
    polls = WaitingPolls()
    poll = known(polls, "a", "board")

    async def woken() -> int:
        times = 0
        until = time.monotonic() + 0.5
        polls.wake(["board"])
        while await poll.wait(until):
            times += 1
            polls.wake(["board"])
        return times

    assert asyncio.run(woken()) <= 4
