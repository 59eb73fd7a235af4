"""Quotas of control groups, in trees of files as the kernel shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from latency_service.agent.measuring.quota import Quota, quotas

UNIT = "/system.slice/agent.service"


def found(tmp_path: Path, membership: str, files: Mapping[str, str]) -> list[tuple[float, str]]:
    """Limit and group of every quota, the smallest first."""
    (tmp_path / "cgroup").write_text(membership)
    root = tmp_path / "root"
    root.mkdir()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return [(quota.cpus, quota.group) for quota in quotas(tmp_path / "cgroup", root)]


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (
            f"0::{UNIT}\n",
            {"cgroup.controllers": "cpu", f"{UNIT[1:]}/cpu.max": "50000 100000\n"},
            [(0.5, UNIT)],
        ),
        (
            f"0::{UNIT}\n",
            {f"{UNIT[1:]}/cpu.max": "max 100000\n", "system.slice/cpu.max": "150000 100000\n"},
            [(1.5, "/system.slice")],
        ),
        (
            f"0::{UNIT}\n",
            {f"{UNIT[1:]}/cpu.max": "200000 100000", "system.slice/cpu.max": "150000 100000"},
            [(1.5, "/system.slice"), (2.0, UNIT)],
        ),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, [(1.5, "/")]),
        ("0::/\n", {"cpu.max": "max 100000\n"}, []),
        (f"0::{UNIT}\n", {"other.slice/cpu.max": "50000 100000\n"}, []),
        (
            f"9:memory:/\n4:cpu,cpuacct:{UNIT}\n",
            {
                f"cpu,cpuacct{UNIT}/cpu.cfs_quota_us": "20000",
                f"cpu,cpuacct{UNIT}/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            [(0.2, UNIT)],
        ),
        (  # both versions side by side, the processors' controller in the first
            "1:cpu:/batch\n0::/user.slice\n",
            {
                "cpu/batch/cpu.cfs_quota_us": "50000",
                "cpu/batch/cpu.cfs_period_us": "100000",
                "unified/user.slice/cgroup.procs": "1",
            },
            [(0.5, "/batch")],
        ),
        (  # a container that sees the host's path but mounts its own group
            "4:cpu:/docker/0123\n",
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
            [(0.5, "/")],
        ),
        ("0::/../outside\n", {"cpu.max": "50000 100000"}, [(0.5, "/")]),
        ("", {"cpu.max": "50000 100000"}, []),
    ],
    ids=[
        "systemd unit",
        "slice above the unit",
        "both, the smaller first",
        "container",
        "no limit",
        "another group's",
        "first version",
        "hybrid",
        "container without a namespace",
        "outside the namespace",
        "no membership",
    ],
)
def test_every_quota_on_the_way_up_counts(
    tmp_path: Path, membership: str, files: dict[str, str], expected: list[tuple[float, str]]
) -> None:
    assert found(tmp_path, membership, files) == expected


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert quotas(tmp_path / "none", tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("group", "cure"),
    [
        (UNIT, "sudo systemctl set-property agent.service CPUQuota="),
        ("/system.slice", "sudo systemctl set-property system.slice CPUQuota="),
        ("/", "--cpuset-cpus"),
        ("/docker/0123", "--cpuset-cpus"),
        ("/kubepods.slice/kubepods-pod1.slice", "CPU limit"),
        ("/batch", "echo -1 | sudo tee"),
    ],
)
def test_each_says_how_to_lift_it(tmp_path: Path, group: str, cure: str) -> None:
    assert cure in Quota(cpus=0.5, group=group, folder=tmp_path).cure


def test_a_group_of_the_second_version_is_lifted_by_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000")
    assert "echo max | sudo tee" in Quota(cpus=0.5, group="/batch", folder=tmp_path).cure
