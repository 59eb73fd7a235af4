from __future__ import annotations

from pathlib import Path

import pytest

from latency_service.agent.fingerprint import context, facts, fingerprint
from latency_service.agent.measuring.quota import Quota
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


def test_a_target_with_a_quota_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under systemd's CPUQuota: the same machine, and yet another target."""
    free = fingerprint(RuntimeConfig())
    half = Quota(cpus=0.5, group="/system.slice/agent.service", folder=Path("/nowhere"))
    monkeypatch.setattr("latency_service.agent.fingerprint.quotas", lambda: [half])
    limited = fingerprint(RuntimeConfig())
    assert limited.facts["cgroup_cpus"] == 0.5
    assert limited.digest != free.digest
