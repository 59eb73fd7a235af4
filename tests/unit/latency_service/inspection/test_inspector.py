"""Every way in which a judgement can end, with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from latency_service.core.errors import Overloaded
from latency_service.inspection.inspector import AT_A_TIME, WAITING, Inspector
from latency_service.inspection.wire import Limits, Refused

JUDGES = "tests.support.judges"
LIMITS = Limits(memory_bytes=96 << 20, cpu_seconds=0.5, wall_seconds=60.0)
SHORT = Limits(memory_bytes=96 << 20, cpu_seconds=0.5, wall_seconds=0.5)
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    made = Inspector([JUDGES])
    yield made
    made.close()


def judge(inspector: Inspector, name: str, upload: bytes = b"", limits: Limits = LIMITS) -> Any:
    with inspector.place("a") as place:
        return asyncio.run(place.judge(f"{JUDGES}:{name}", upload, limits))


def refusal(inspector: Inspector, name: str, upload: bytes = b"", limits: Limits = LIMITS) -> str:
    with pytest.raises(Refused) as caught:
        judge(inspector, name, upload, limits)
    return caught.value.message


def test_each_upload_is_judged_in_a_process_of_its_own(inspector: Inspector) -> None:
    answers = [judge(inspector, "count", bytes(5 << 20)) for _ in range(2)]
    assert [answer["bytes"] for answer in answers] == [5 << 20] * 2
    assert len({os.getpid(), *(answer["process"] for answer in answers)}) == 3


def test_a_refusal_keeps_its_cure(inspector: Inspector) -> None:
    with pytest.raises(Refused) as caught:
        judge(inspector, "refuse")
    assert (caught.value.message, caught.value.cure) == ("it is not nice", "Be nicer.")


def test_any_exception_is_a_short_refusal_in_plain_text(inspector: Inspector) -> None:
    reason = refusal(inspector, "fail", b"\xff")
    assert reason.startswith("KeyError")
    assert len(reason) < 1100
    assert not {"\x00", "\x1b", "\udcff"} & set(reason)


@linux
@pytest.mark.parametrize(
    ("name", "limits", "words"),
    [
        ("spin", LIMITS, "more than 0.5 s of processor time"),
        ("sleep", SHORT, "more than 0.5 s"),
        ("grow", LIMITS, "more than 96 MB of memory"),
        ("grow_in_a_library", LIMITS, "more than 96 MB of memory"),
        ("crash", LIMITS, f"ended with status {-signal.SIGSEGV}"),
        ("leave", LIMITS, "without an answer"),
        ("tell_too_much", LIMITS, "too long to be told"),
    ],
)
def test_limits_name_themselves(
    inspector: Inspector, name: str, limits: Limits, words: str
) -> None:
    assert words in refusal(inspector, name, limits=limits)
    assert judge(inspector, "count")["bytes"] == 0


@linux
def test_it_writes_no_files(inspector: Inspector, tmp_path: Path) -> None:
    target = tmp_path / "written"
    assert refusal(inspector, "write", bytes(target))
    assert not target.exists() or target.stat().st_size == 0


def test_it_sees_none_of_the_service_s_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENCY_SERVICE_API_TOKEN", "hush")
    with contextlib.closing(Inspector([JUDGES])) as inspector:
        assert judge(inspector, "look_around") == []


def test_the_process_that_others_are_forked_from_is_started_again() -> None:
    before = set(_servers())
    with contextlib.closing(Inspector([JUDGES])) as inspector:
        judge(inspector, "count")
        (server,) = set(_servers()) - before
        server.kill()
        server.wait(10)
        assert judge(inspector, "count", b"abc")["bytes"] == 3


def test_nothing_is_left_when_it_is_closed() -> None:
    before = set(_servers())
    inspector = Inspector([JUDGES])
    inspector.start()
    assert len(set(_servers()) - before) == 1
    inspector.close()
    assert set(_servers()) == before


def test_no_more_than_some_uploads_wait(inspector: Inspector) -> None:
    limits = Limits(memory_bytes=96 << 20, cpu_seconds=9, wall_seconds=0.3)

    async def one(number: int) -> Any:
        with inspector.place(f"token-{number}") as place:
            return await place.judge(f"{JUDGES}:sleep", b"", limits)

    async def many() -> list[Any]:
        calls = [one(number) for number in range(AT_A_TIME + WAITING + 1)]
        return await asyncio.gather(*calls, return_exceptions=True)

    began = time.monotonic()
    errors = asyncio.run(many())
    assert [type(error) for error in errors].count(Overloaded) == 1
    assert [type(error) for error in errors].count(Refused) == AT_A_TIME + WAITING
    assert time.monotonic() - began > 0.3 * WAITING / AT_A_TIME


def _servers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE
        and "latency_service.inspection.server" in child.cmdline()
    ]
