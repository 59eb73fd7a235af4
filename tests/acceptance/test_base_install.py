"""The base install is the agent: it lacks torch, fastapi and sqlalchemy, and measures all the
same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.processes import Stage, migrate, serve
from tests.support.tiny import campaign_of, tiny_space

ROOT = Path(__file__).parents[2]
ABSENT = ("torch", "fastapi", "sqlalchemy", "uvicorn", "alembic", "sklearn", "jinja2", "plotly")


def install(folder: Path) -> Path:
    """The wheel and its base dependencies in an environment of their own; its `latency-service`."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = ["wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*pip, *wheel], check=True, timeout=120)
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (built,) = folder.glob("*.whl")
    # most of what is installed is never imported: Python compiles the rest when it is
    words = ["--python", str(python), "install", "--no-compile", str(built)]
    subprocess.run([*pip, *words], check=True, timeout=240)
    return python.with_name("latency-service")


@pytest.mark.slow
def test_an_agent_of_the_base_install_measures_for_the_service(
    stage: Stage, tmp_path: Path
) -> None:
    command = install(tmp_path / "base")
    probe = (
        f"import importlib.util as i, json; print(json.dumps([n for n in {ABSENT!r} if "
        "i.find_spec(n)]))"
    )
    python = command.with_name("python")
    assert json.loads(subprocess.check_output([python, "-c", probe], cwd=tmp_path)) == []

    migrate(tmp_path, "")
    service = serve(stage, "")
    service.agent(command=[str(command)])
    space = tiny_space()
    service.api.request("POST", "/v1/spaces", content=space.data)
    campaign = service.post("/v1/campaigns", campaign_of(space, 4))["id"]
    stage.eventually(
        lambda: service.get(f"/v1/campaigns/{campaign}")["state"] == "done",
        "one job is measured",
        60.0,
    )

    refused = subprocess.run(
        [command, "serve"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert refused.returncode == 1
    assert "pip install 'latency-service[service]'" in refused.stderr
    for words in (
        ["doctor", "--json"],
        ["campaigns", "list", "--server", service.url, "--token", "x", "--json"],
    ):
        ended = subprocess.run(
            [command, *words], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert "Traceback" not in ended.stderr
        assert "latency-service[service]" not in ended.stderr
