from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pruning_client.errors import Missing
from pruning_client.pipeline import ray


def test_jobs_get_the_sweeps_options_but_its_own() -> None:
    given = [
        "--model",
        "m:net",
        "--budgets",
        "4ms,6ms",
        "--out=here",
        "--json",
        "--ray",
        "auto",
        "--no-campaign",
    ]
    assert ray.shared_arguments(given) == ["--model", "m:net", "--no-campaign"]


def test_a_job_gives_back_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        out = Path(command[command.index("--out") + 1])
        (out / "report.json").write_text("{}")
        (out / "checkpoint").mkdir()
        return subprocess.CompletedProcess(
            command, 1, "", f"a reason, {options['env']['LATENCY_SERVICE_URL']}"
        )

    monkeypatch.setattr(subprocess, "run", run)
    found = ray.pruned(["--budget", "1ms"], {"LATENCY_SERVICE_URL": "http://there"})
    assert found == {"code": 1, "error": "a reason, http://there", "files": {"report.json": "e30="}}


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Missing, match="Ray is not installed") as caught:
        ray.Cluster("local", [])
    assert "latency-service[cluster]" in caught.value.cure
