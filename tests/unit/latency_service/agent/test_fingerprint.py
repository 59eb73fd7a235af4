from __future__ import annotations

from pathlib import Path

import pytest

from latency_service.agent.fingerprint import (
    board,
    clock_setting,
    context,
    core_kinds,
    facts,
    fingerprint,
    processor_parts,
)
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


def test_how_several_threads_wait_is_a_fact_of_their_targets_only() -> None:
    assert "shared_threads" not in fingerprint(RuntimeConfig()).facts
    assert fingerprint(RuntimeConfig(intra_threads=2)).facts["shared_threads"] is True


def test_a_target_with_a_quota_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under systemd's CPUQuota: the same machine, and yet another target."""
    free = fingerprint(RuntimeConfig())
    half = Quota(cpus=0.5, group="/system.slice/agent.service", folder=Path("/nowhere"))
    monkeypatch.setattr("latency_service.agent.fingerprint.quotas", lambda: [half])
    limited = fingerprint(RuntimeConfig())
    assert limited.facts["cgroup_cpus"] == 0.5
    assert limited.digest != free.digest


#: Of an Odroid N2+ (two Cortex-A53, four Cortex-A73), shortened.
ODROID = """processor\t: {0}
BogoMIPS\t: 48.00
CPU implementer\t: 0x41
CPU part\t: {1}
CPU revision\t: 2"""


def test_a_processor_of_two_kinds_of_cores_is_told_by_their_parts(tmp_path: Path) -> None:
    cores = [ODROID.format(i, "0xd03" if i < 2 else "0xd09") for i in range(6)]
    path = tmp_path / "cpuinfo"
    path.write_text("\n\n".join([*cores, "Serial\t: 100000001"]))
    assert processor_parts(path) == "2x 0x41/0xd03 + 4x 0x41/0xd09"
    path.write_text("processor: 0\nmodel name: Xeon\n")
    assert processor_parts(path) is None


def test_a_board_with_a_device_tree_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    assert board(tmp_path / "model") == "Raspberry Pi 4 Model B Rev 1.4"
    assert board(tmp_path / "absent") is None


def test_kinds_of_cores_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latency_service.agent.fingerprint.allowed_cores", lambda: [0, 1, 2])
    assert core_kinds(tmp_path) is None
    for core, capacity in enumerate((446, 446, 1024)):
        (tmp_path / f"cpu{core}").mkdir()
        (tmp_path / f"cpu{core}" / "cpu_capacity").write_text(f"{capacity}\n")
    assert core_kinds(tmp_path) == "2x 446 + 1x 1024"


def test_the_clock_is_that_of_the_core_that_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    for core, (capacity, governor) in enumerate(((446, "performance"), (1024, "ondemand"))):
        (tmp_path / f"cpu{core}/cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{core}/cpu_capacity").write_text(f"{capacity}\n")
        (tmp_path / f"cpu{core}/cpufreq/scaling_governor").write_text(f"{governor}\n")
    assert clock_setting("scaling_governor", tmp_path) == "ondemand"
    assert clock_setting("scaling_max_freq", tmp_path) is None
