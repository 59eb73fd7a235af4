from __future__ import annotations

from pathlib import Path

import pytest

from latency_service.agent.fingerprint import cgroup_cpus, context, facts, fingerprint
from latency_service.devices.schemas import RuntimeConfig


def test_the_same_machine_has_the_same_digest() -> None:
    assert fingerprint(RuntimeConfig()).digest == fingerprint(RuntimeConfig()).digest


def test_the_state_of_the_machine_is_kept_but_not_hashed() -> None:
    now = fingerprint(RuntimeConfig())
    assert now.context.keys() == context().keys()
    assert now.model_copy(update={"context": {"load": 99.0}}).digest == now.digest


@pytest.mark.parametrize(
    "runtime",
    [
        RuntimeConfig(intra_threads=2),
        RuntimeConfig(batch=8),
        RuntimeConfig(precision="int8"),
        RuntimeConfig(provider="CUDAExecutionProvider"),
    ],
    ids=lambda runtime: runtime.key,
)
def test_another_runtime_is_another_target(runtime: RuntimeConfig) -> None:
    assert fingerprint(runtime).digest != fingerprint(RuntimeConfig()).digest


@pytest.mark.parametrize("name", sorted(facts()))
def test_every_fact_is_hashed(name: str) -> None:
    here = fingerprint(RuntimeConfig())
    other = here.model_copy(update={"facts": {**here.facts, name: "something else"}})
    assert other.digest != here.digest


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_both_kinds_of_control_group(
    tmp_path: Path, files: dict[str, str], cpus: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_cpus(tmp_path) == cpus
