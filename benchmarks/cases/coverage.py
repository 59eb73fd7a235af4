"""Which networks of torchvision and timm can be pruned: their structure, removal and agreement.

Every classification and segmentation network of torchvision and one network of each of 154 families
of CNNs of timm, with random weights. A network passes when width groups are found, and when with
random widths the smaller torch module, the sliced graph in ONNX Runtime and the dense network with
closed gates agree. It is silently wrong when they differ for the network's own weights although the
analysis raised no objection. The two packages are optional: see ``benchmarks/support/zoo.py``.

Every network is a process of its own. Finished ones are kept under ``runs/benchmarks``, and taken
from the committed result, so that a stopped run resumes; ``--parts N`` ends after N networks, and
the JSON holds what is there, each with the commit at which it was tried. To try all anew, remove
the JSON.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.support import zoo
from benchmarks.support.harness import Bar, Outcome, at_least, at_most, commit, keep_committed
from benchmarks.support.predictors import machine_folder
from latency_service.spaces.layers import total_macs
from latency_service.spaces.slicing import materialise
from pruning_client.graph import comparison, proof
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim

#: Processor time that a network may take; wall time would depend on the neighbours.
_CPU_SECONDS = 600
_WORKERS = 2
#: Smallest share of networks that pass.
_PASSING = {"torchvision": 95.0, "timm": 85.0}
_QUICK = [("torchvision", "resnet18"), ("timm", "test_resnet")]


def run(quick: bool, parts: int | None = None) -> Outcome:
    """Try the networks that have not been tried yet (two of them when quick).

    Args:
        parts: maximum number of networks to try now; all of them by default.
    """
    folder = machine_folder(quick) / "coverage"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = _QUICK if quick else zoo.names()
    if not quick:
        keep_committed("coverage", lambda case: _path(folder, case["library"], case["network"]))
    left = [pair for pair in wanted if not _path(folder, *pair).exists()]
    with ThreadPoolExecutor(_WORKERS) as workers:
        for line in workers.map(lambda pair: _try(folder, *pair), left[:parts]):
            print(line, flush=True)
    paths = [_path(folder, *pair) for pair in wanted]
    cases = [json.loads(path.read_text()) for path in paths if path.exists()]
    return Outcome(bars=_bars(cases), data={"cases": cases})


def _path(folder: Path, library: str, name: str) -> Path:
    return folder / f"{library}-{name}.json"


def _try(folder: Path, library: str, name: str) -> str:
    path = _path(folder, library, name)
    command = [sys.executable, "-m", __name__, library, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if lines:
        found = json.loads(lines[-1])
    elif done.returncode == -signal.SIGXCPU:
        found = {"outcome": "too slow", "reason": f"{_CPU_SECONDS} s of processor time"}
    else:
        found = {"outcome": "died", "reason": " ".join(done.stderr.split())[-300:]}
    case = {"library": library, "network": name, "commit": commit(), **found}
    path.write_text(json.dumps(case))
    return f"{library} {name}: {case['outcome']} {case.get('reason', '')}"


def _bars(cases: list[dict[str, Any]]) -> list[Bar]:
    bars = []
    for library, limit in _PASSING.items():
        mine = [case["outcome"] for case in cases if case["library"] == library]
        if mine:
            passing = 100 * mine.count("passes") / len(mine)
            bars.append(
                at_least(f"{library}: networks that pass, of {len(mine)}", passing, limit, "%")
            )
    wrong = sum(case["outcome"] == "silently wrong" for case in cases)
    bars.append(at_most("silently wrong", wrong, 0, "networks"))
    seconds = [case["space_seconds"] for case in cases if "space_seconds" in case]
    if seconds:
        bars += [
            at_most("make-space, 95th percentile", float(np.percentile(seconds, 95)), 30, "CPU s"),
            at_most("make-space, worst", max(seconds), 60, "CPU s"),
        ]
    return bars


def examine(library: str, name: str) -> dict[str, Any]:
    """What happens with one network."""
    model, example = zoo.create(library, name)
    begun = _cpu_seconds()
    try:
        traced = make_space(model, example)
    except Exception as error:  # noqa: BLE001 any failure is what is asked for
        return {"outcome": "refused", "reason": str(error)[:300]}
    figures = {
        "space_seconds": _cpu_seconds() - begun,
        "groups": len(traced.space.groups),
        "unprunable": dict(list(traced.space.manifest.unprunable.items())[:3]),
    }
    if not traced.space.groups:
        return {"outcome": "nothing to prune", **figures}
    full = [group.width for group in traced.space.groups]
    least = [group.minimum for group in traced.space.groups]
    macs = [float(total_macs(traced.space, widths)) for widths in (least, full)]
    figures["macs_reachable_percent"] = 100 * (1 - macs[0] / macs[1])
    keep = proof.random_keep(traced.space, seed=1)
    try:
        small = slim(model, traced, keep)
    except Exception as error:  # noqa: BLE001
        return {"outcome": "not removed", "reason": str(error)[:300], **figures}
    graph = materialise(
        traced.space,
        [len(channels) for channels in keep],
        keep=keep,
        weights=proof.weights_of(model, traced.weights),
    )
    agree = comparison.agree(
        proof.run_onnx(graph, traced.example), proof.run_torch(small, traced.example)
    )
    return {"outcome": "passes" if agree else "silently wrong", **figures}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS + 10))
    print(json.dumps(examine(*sys.argv[1:])))
