"""The command line against a fake service on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_service.cli.main import main
from tests.support.outcomes import Outcome, Run
from tests.support.scripted_service import ScriptedService, listening


@pytest.fixture
def service() -> Iterator[ScriptedService]:
    with listening(ScriptedService()) as found:
        yield found


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    for name in ("LATENCY_SERVICE_URL", "LATENCY_SERVICE_TOKEN", "LATENCY_SERVICE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LATENCY_SERVICE_DATA_DIR", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], data_dir: Path) -> Run:
    def invoke(*words: str) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main(words)
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return invoke


@pytest.fixture
def call(run: Run, service: ScriptedService) -> Run:
    """A command with the fake service's address and a token."""

    def invoke(*words: str) -> Outcome:
        return run(*words, "--server", service.url, "--token", "secret-token-0123456789")

    return invoke
