from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from latency_service.agent import doctor
from latency_service.agent.doctor import NOT_TOLD, Finding, Usage, examine
from latency_service.agent.measuring.quota import Quota

LIMITED = Quota(cpus=1.5, group="/system.slice/agent.service", folder=Path("/nowhere"))
CALM = Usage(0.02, 0.0, [])


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on the test's standard error."""


@pytest.fixture
def healthy() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_every_finding_says_what_was_found_and_every_trouble_its_cure(tmp_path: Path) -> None:
    findings = examine(tmp_path)
    assert [finding.check for finding in findings] == [
        "system",
        "folders",
        "privacy",
        "disk",
        "memory",
        "priority",
        "governor",
        "turbo",
        "temperature",
        "other users",
        "hypervisor",
        "clock source",
        "quota",
        "runtime",
        "providers",
    ]
    assert all(finding.found for finding in findings)
    assert all(bool(finding.cure) == (finding.level != "ok") for finding in findings)
    assert [finding.level for finding in findings if finding.check in ("runtime", "providers")] == [
        "ok",
        "ok",
    ]


@pytest.mark.parametrize(
    ("finding", "level", "found"),
    [
        (doctor.governor("performance"), "ok", "performance"),
        (doctor.governor("powersave"), "warning", "powersave"),
        (doctor.governor(None), "ok", NOT_TOLD),
        (doctor.turbo(False), "ok", "off"),
        (doctor.turbo(True), "warning", "on"),
        (doctor.turbo(None), "ok", NOT_TOLD),
        (doctor.temperature(40.0), "ok", "40 °C"),
        (doctor.temperature(97.0), "warning", "97 °C"),
        (doctor.temperature(None), "ok", NOT_TOLD),
        (doctor.others(CALM, 0.1), "ok", "load 0.10"),
        (doctor.others(CALM, None), "ok", "2% of the cores"),
        (doctor.others(Usage(0.7, 0.0, ["compiler 140%"]), 1.4), "warning", "compiler 140%"),
        (doctor.hypervisor(CALM), "ok", "0.0%"),
        (doctor.hypervisor(Usage(0.0, 0.2, [])), "warning", "20.0%"),
        (doctor.clock_source("tsc"), "ok", "tsc"),
        (doctor.clock_source("hpet"), "warning", "hpet"),
        (doctor.clock_source(None), "ok", NOT_TOLD),
        (doctor.quota(None, 4), "ok", "none on 4 cores"),
        (doctor.quota(LIMITED, 4), "warning", "1.5 processors' worth of time on 4 cores"),
        (doctor.quota(LIMITED, 4), "warning", "/system.slice/agent.service"),
        (doctor.providers(["CUDAExecutionProvider"]), "error", "CUDAExecutionProvider"),
        (doctor.providers([]), "error", "none"),
    ],
    ids=lambda value: value.check if isinstance(value, Finding) else None,
)
def test_what_is_judged_how(finding: Finding, level: str, found: str) -> None:
    assert finding.level == level
    assert found in finding.found


def test_a_runtime_that_takes_nothing_prevents_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> int:
        raise RuntimeError("accepts no ONNX opset")

    monkeypatch.setattr(doctor, "max_opset", broken)
    finding = doctor.runtime()
    assert (finding.level, "no ONNX opset" in finding.found) == ("error", True)


def test_a_service_that_answers(healthy: str, tmp_path: Path) -> None:
    finding = examine(tmp_path, healthy)[-1]
    assert (finding.check, finding.level) == ("service", "ok")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "nonsense"])
def test_a_service_that_does_not(url: str) -> None:
    finding = doctor.service(url)
    assert (finding.level, bool(finding.cure)) == ("error", True)


def test_others_that_use_a_core_are_named() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            usage = doctor.watch(0.5)
        finally:
            busy.kill()
    assert usage.busy > 0.1
    assert usage.names


def test_linux_is_where_everything_works() -> None:
    assert doctor.system("Linux").level == "ok"


@pytest.mark.parametrize(
    ("name", "lacks"),
    [("Darwin", "efficiency cores"), ("Windows", "priority is not raised"), ("Plan9", "tried")],
)
def test_other_systems_are_told_what_works_and_what_does_not(name: str, lacks: str) -> None:
    found = doctor.system(name)
    assert found.level == "warning"
    assert found.found.startswith(f"{name}: enrolling, measuring, delivering")
    assert lacks in found.found
    assert "not tested" in found.found


def test_a_read_only_file_system_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "not" / "there" / "yet"
    assert doctor.folders(state).level == "ok"
    write = tempfile.TemporaryFile

    def refuse(*, dir: Path) -> Any:
        if dir == tmp_path:
            raise OSError(errno.EROFS, "read-only file system")
        return write(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    found = doctor.folders(state)
    assert (found.level, str(tmp_path) in found.found) == ("error", True)
    assert "--state-dir" in found.cure

    def nowhere() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    assert "tmpfs" in doctor.folders(state).cure


def test_a_state_folder_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    state = tmp_path / "agent"
    assert doctor.privacy(state).level == "ok"
    for mode, level in ((0o700, "ok"), (0o750, "warning"), (0o701, "warning")):
        state.mkdir(exist_ok=True)
        state.chmod(mode)
        assert doctor.privacy(state).level == level
    assert doctor.privacy(state).cure == f"Run: chmod 700 {state}"


@pytest.mark.parametrize(
    ("free_bytes", "level"), [(1 << 30, "ok"), (100 << 20, "warning"), (1 << 20, "error")]
)
def test_a_full_disk_is_told_before_a_result_is_lost(
    free_bytes: int, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free_bytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert doctor.disk(tmp_path / "agent").level == level


def test_little_memory_is_a_warning() -> None:
    assert doctor.memory(512_000_000, 380_000_000).level == "ok"
    found = doctor.memory(512_000_000, 100_000_000)
    assert (found.level, "device_oom" in found.found) == ("warning", True)


def test_without_root_the_cure_is_the_unit() -> None:
    assert doctor.priority(True).cure == ""
    assert "LimitNICE" in doctor.priority(False).cure
