"""Starting, restarting, giving up and stopping child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from latency_service.core.parents import PARENT_VARIABLE
from latency_service.embedded import supervisor as module
from latency_service.embedded.supervisor import (
    ChildSpec,
    GaveUp,
    RestartPolicy,
    Supervisor,
)

SLEEPS = "import time; time.sleep(600)"
QUICK = RestartPolicy(
    quick_seconds=60.0, max_quick_deaths=3, first_delay_seconds=0.01, max_delay_seconds=0.05
)


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said: list[str]) -> Iterator[Supervisor]:
    made = Supervisor(said.append, policy=QUICK, stop_seconds=1.0)
    yield made
    made.stop()


def spec(folder: Path, code: str, name: str = "part") -> ChildSpec:
    log = folder / "logs" / f"{name}.log"
    return ChildSpec(
        name=name, command=(sys.executable, "-c", code), environment=dict(os.environ), log=log
    )


def test_a_child_that_is_killed_is_started_again(
    supervisor: Supervisor, said: list[str], tmp_path: Path
) -> None:
    child = supervisor.start(spec(tmp_path, SLEEPS))
    assert child.process is not None
    first = child.process.pid
    os.kill(first, signal.SIGKILL)

    def is_new() -> bool:
        supervisor.tend()
        return child.process is not None and child.process.pid != first

    assert eventually(is_new)
    assert "part ended (SIGKILL); starting it again" in said[0]


def test_a_child_that_keeps_dying_is_given_up_with_its_last_lines(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(spec(tmp_path, "print('the cause'); raise SystemExit(3)"))
    with pytest.raises(GaveUp) as gave_up:
        supervisor.run(threading.Event(), poll_seconds=0.01)
    assert gave_up.value.name == "part"
    assert gave_up.value.log_tail.splitlines() == ["the cause"] * QUICK.max_quick_deaths


def test_a_death_after_a_long_life_starts_the_count_anew(tmp_path: Path, said: list[str]) -> None:
    now = 0.0
    child = module.Child(
        spec=spec(tmp_path, "pass"), policy=QUICK, say=said.append, clock=lambda: now
    )
    for _ in range(2 * QUICK.max_quick_deaths):
        child.start()
        assert child.process is not None
        child.process.wait()
        now += QUICK.quick_seconds
        child.tend()
        now += QUICK.max_delay_seconds
    assert len(said) == 2 * QUICK.max_quick_deaths


def test_pauses_double_up_to_their_limit() -> None:
    policy = RestartPolicy(first_delay_seconds=0.5, max_delay_seconds=3.0)
    assert [policy.delay_seconds(deaths) for deaths in range(6)] == [0.5, 0.5, 1.0, 2.0, 3.0, 3.0]


def test_stop_asks_the_others_before_the_first_and_forces_the_stubborn(
    said: list[str], tmp_path: Path
) -> None:
    supervisor = Supervisor(said.append, stop_seconds=1.0)
    order = tmp_path / "order"
    polite = (
        "import signal, sys, time\n"
        f"def end(*_):\n    open({str(order)!r}, 'a').write(sys.argv[1])\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\nprint('ready', flush=True)\ntime.sleep(600)"
    )
    stubborn = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); "
        + SLEEPS
    )
    for name, code in (("first", polite), ("second", polite), ("stubborn", stubborn)):
        plain = spec(tmp_path, code, name)
        supervisor.start(
            ChildSpec(
                name=name,
                command=(*plain.command, name[0]),
                environment=plain.environment,
                log=plain.log,
            )
        )
    pids = [child.process.pid for child in supervisor.children if child.process]
    assert eventually(
        lambda: all("ready" in child.spec.log.read_text() for child in supervisor.children)
    )
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < 5.0
    assert order.read_text() == "sf"
    assert said == ["stubborn did not stop in time and is killed"]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_what_a_child_started_ends_with_it(supervisor: Supervisor, tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', "
        f"{SLEEPS!r}]).pid, flush=True); {SLEEPS}"
    )
    child = supervisor.start(spec(tmp_path, code))
    assert eventually(lambda: child.spec.log.read_text().strip().isdigit())
    grandchild = int(child.spec.log.read_text())
    supervisor.stop()
    assert eventually(lambda: not is_alive(grandchild))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it on Linux only")
@pytest.mark.parametrize("dies", ["by the kernel", "by watching"])
def test_children_end_with_a_supervisor_that_is_killed(dies: str, tmp_path: Path) -> None:
    platform = "" if dies == "by the kernel" else "sys.platform = 'elsewhere'; "
    child = (
        f"import sys, os; {platform}from latency_service.core.parents import "
        "die_with_parent; die_with_parent(); "
    )
    child += "print(os.getpid(), flush=True); " + SLEEPS
    parent = (
        "import os, pathlib, sys, time\nfrom latency_service.embedded.supervisor import *\n"
        f"log = pathlib.Path({str(tmp_path / 'log')!r})\n"
        f"command = (sys.executable, '-c', {child!r})\n"
        "spec = ChildSpec(name='part', command=command, environment=dict(os.environ), log=log)\n"
        "Supervisor(print).start(spec)\ntime.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    log = tmp_path / "log"
    assert eventually(lambda: log.exists() and log.read_text().strip().isdigit())
    pid = int(log.read_text())
    assert is_alive(pid)
    process.kill()
    process.wait()
    assert eventually(lambda: not is_alive(pid))


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    code = (
        "from latency_service.core.parents import die_with_parent; "
        "die_with_parent(); print('alive')"
    )
    environment = {**os.environ, PARENT_VARIABLE: str(1 << 30)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, b"")


def test_a_program_without_a_log_runs_once_and_writes_where_the_supervisor_does(
    supervisor: Supervisor, said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    command = (sys.executable, "-c", "print('done', flush=True); raise SystemExit(1)")
    once = ChildSpec(name="once", command=command, environment=dict(os.environ), log=None)
    child = supervisor.start(once)
    assert child.process is not None
    child.process.wait(10)
    for _ in range(3):
        supervisor.tend()
    assert child.process is None
    assert capfd.readouterr().out == "done\n"
    assert said == []


def test_a_log_that_has_grown_too_large_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_LIMIT_BYTES", 10)
    log = tmp_path / "part.log"
    for text in (b"0123456789", b"again", b"new"):
        with module.open_log(log) as file:
            file.write(text)
    assert log.read_bytes() == b"new"
    assert (tmp_path / "part.log.1").read_bytes() == b"0123456789again"


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
