from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from pruning_client import cluster
from pruning_client.errors import Missing


def test_jobs_get_the_sweeps_options_but_its_own() -> None:
    given = ["--model", "m:net", "--budgets", "4ms,6ms", "--out=here", "--json", "--ray", "auto", "--no-campaign"]
    assert cluster.shared_arguments(given) == ["--model", "m:net", "--no-campaign"]


def test_a_job_gives_back_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        out = Path(command[command.index("--out") + 1])
        (out / "report.json").write_text("{}")
        (out / "checkpoint").mkdir()
        return subprocess.CompletedProcess(command, 1, "", "a reason")

    monkeypatch.setattr(subprocess, "run", run)
    assert cluster.pruned(["--budget", "1ms"]) == {"code": 1, "error": "a reason", "files": {"report.json": "e30="}}


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Missing, match="Ray is not installed") as caught:
        cluster.Cluster("local", [])
    assert "latency-service[cluster]" in caught.value.cure


class FakeRay:
    """The few calls of Ray that a sweep makes, in this process."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def init(self, address: str, **_options: object) -> None:
        self.calls.append(f"init {address}")

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def remote(self, **_options: object) -> Any:
        return lambda function: types.SimpleNamespace(remote=function)

    def get(self, answer: Any) -> Any:
        return answer


def test_files_of_every_task_come_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)

    def pruned(arguments: list[str]) -> dict[str, Any]:
        assert arguments[:2] == ["--model", "m:net"]
        if arguments[-1] == "1us":
            return {"code": 7, "error": "below what this network can reach", "files": {}}
        return {"code": 0, "error": "", "files": {"report.json": "e30="}}

    monkeypatch.setattr(cluster, "pruned", pruned)
    away = cluster.Cluster("ray://head:10001", ["--model", "m:net", "--budgets", "60%,1us"])
    assert away.run(["60%", "1us"], tmp_path) == {"1us": "below what this network can reach"}
    assert (tmp_path / "60pct" / "report.json").read_text() == "{}"
    assert ray.calls == ["init ray://head:10001", "shutdown"]
