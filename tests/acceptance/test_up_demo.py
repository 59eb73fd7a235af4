"""`latency-service up --demo` whole: an empty folder becomes a dashboard full of measurements."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from latency_service.core.client import Client
from latency_service.core.demo import SPACE_NAME
from tests.support.processes import clean_environment


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_an_empty_folder_is_filled_by_measuring_and_the_service_answers_meanwhile(
    tmp_path: Path,
) -> None:
    words = ("up", "--demo", "--port", "0", "--data-dir", str(tmp_path), "--json")
    process = subprocess.Popen(
        [sys.executable, "-m", "latency_service", *words],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        ready = json.loads(process.stdout.readline())
        token = Path(ready["token_file"]).read_text()
        said = []
        with Client(ready["url"], token) as client:
            for line in process.stderr:
                said.append(line)
                assert client.is_ready()
                if line.startswith("The demo") and "every page fills" not in line:
                    break
            assert said[-1].startswith("The demo data are complete"), "".join(said)
            assert [space.name for space in client.spaces()] == [SPACE_NAME]
            predictors = client.predictors()
            assert {view.state for view in client.campaigns()} == {"done"}
            assert all(view.sidecar.repeat_difference for view in predictors)
            assert {run.state for run in client.runs()} == {"done"}
            assert client.report(predictors[0].id).count("plotly.js v") == 1
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
