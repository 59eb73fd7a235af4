"""The jobs of a sweep on a Ray cluster: each is the command ``pruning-client prune`` in a task of
its own.

Only text travels: the command's options, where the service is, and the files that a job wrote. The
machines of the cluster need the model's module and the data at the same paths, and reach the
service.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pruning_client.errors import Missing

#: Options of ``sweep`` that ``prune`` does not have, or that each job gets anew; all of them take a
#: value.
_OWN = ("--budgets", "--out", "--ray")
_FLAGS = ("--resume", "--no-resume", "--json")
#: What a job reads from its environment.
_TOLD = ("LATENCY_SERVICE_URL", "LATENCY_SERVICE_TOKEN")
_OK = (0, 1)


class Cluster:
    """A Ray cluster.

    Args:
        address: as ``ray.init`` takes it; "local" starts one on this machine.
        arguments: of ``pruning-client sweep``, from which those of each job are made.

    Raises:
        Missing: Ray is not installed.
    """

    def __init__(self, address: str, arguments: Sequence[str]) -> None:
        try:
            import ray
        except ImportError as error:
            raise Missing(
                "Ray is not installed.", "Install it: pip install 'latency-service[cluster]'."
            ) from error
        self._ray: Any = ray
        self._address = address
        self._arguments = shared_arguments(arguments)

    def run(self, budgets: Sequence[str], out: Path) -> dict[str, str]:
        """Run every budget's job; their files come to ``out``. Returns the reasons of those that
        failed.
        """
        from pruning_client.pipeline.sweep import folder_of

        ray = self._ray
        ray.init(
            address=self._address,
            log_to_driver=False,
            configure_logging=False,
            include_dashboard=False,
        )
        try:
            task = ray.remote(num_cpus=1)(pruned)
            told = {name: os.environ[name] for name in _TOLD if name in os.environ}
            waiting = {
                budget: task.remote([*self._arguments, "--budget", budget], told)
                for budget in budgets
            }
            answers = {budget: ray.get(reference) for budget, reference in waiting.items()}
        finally:
            ray.shutdown()
        failures = {}
        for budget, answer in answers.items():
            if answer["code"] not in _OK:
                failures[budget] = answer["error"]
                continue
            folder = out / folder_of(budget)
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in answer["files"].items():
                (folder / name).write_bytes(base64.b64decode(content))
        return failures


def shared_arguments(arguments: Sequence[str]) -> list[str]:
    """The options of a sweep that its jobs take as they are."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        name = argument.partition("=")[0]
        if skip:
            skip = False
        elif name in _OWN:
            skip = "=" not in argument
        elif argument not in _FLAGS:
            kept.append(argument)
    return kept


def pruned(arguments: Sequence[str], told: Mapping[str, str]) -> dict[str, Any]:
    """One job in a process of its own, `told` in its environment: exit code, the end of what it
    said, and its files in base64.
    """
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable,
            "-m",
            "pruning_client",
            "prune",
            *arguments,
            "--out",
            scratch,
            "--json",
        ]
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **told}
        )
        files = {
            path.name: base64.b64encode(path.read_bytes()).decode()
            for path in sorted(Path(scratch).iterdir())
            if path.is_file()
        }
    return {"code": ended.returncode, "error": ended.stderr.strip()[-500:], "files": files}
