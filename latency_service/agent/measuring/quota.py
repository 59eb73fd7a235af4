"""How much processor time the control groups of this process leave it. Linux; nothing elsewhere.

A group may use so much time in each period (usually 100 ms), summed over all cores, and is halted
when that is spent. systemd's ``CPUQuota``, Docker's ``--cpus`` and Kubernetes' limits are all such
quotas. A process obeys those of its own group and of every group above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_MEMBERSHIP = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class Quota:
    """The limit of one control group."""

    #: Processors' worth of time.
    cpus: float
    #: Path of the group in its hierarchy, "/" for the topmost that this process can see.
    group: str
    #: Folder of the group.
    folder: Path

    def halts(self) -> int:
        """How often the group was halted so far; 0 where it is not told."""
        try:
            lines = (self.folder / "cpu.stat").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("nr_throttled ")), 0)

    @property
    def cure(self) -> str:
        """How to lift it."""
        unit = PurePosixPath(self.group).name
        if unit.endswith((".service", ".scope", ".slice")) and "kubepods" not in self.group:
            return f"Lift it: sudo systemctl set-property {unit} CPUQuota="
        if "kubepods" in self.group:
            return "Remove the container's CPU limit, or give it whole cores (static CPU manager)."
        if self.group == "/" or "docker" in self.group:
            return "Start the container with --cpuset-cpus instead of --cpus."
        file = self.folder / "cpu.max"
        lifted, path = ("max", file) if file.exists() else ("-1", self.folder / "cpu.cfs_quota_us")
        return f"Lift it: echo {lifted} | sudo tee {path}"


def quotas(membership: Path = _MEMBERSHIP, root: Path = _ROOT) -> list[Quota]:
    """Every quota that this process obeys, the smallest first.

    Args:
        membership: file that names the process's groups.
        root: where the hierarchies are mounted.
    """
    found = [
        Quota(cpus=cpus, group=str(PurePosixPath("/", *path.relative_to(top).parts)), folder=path)
        for top, own in _groups(membership, root)
        for path in _way_up(top, own)
        if (cpus := _cpus(path)) is not None
    ]
    return sorted(found, key=lambda quota: quota.cpus)


def _groups(membership: Path, root: Path) -> Iterator[tuple[Path, str]]:
    """Hierarchies that may limit processor time: where each is mounted, and the process's group."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = ["0::/", "1:cpu:/"]
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if not controllers:
            yield (root / "unified" if (root / "unified").is_dir() else root), own
        elif "cpu" in controllers.split(","):
            mounts = (root / controllers, root / "cpu", root / "cpu,cpuacct")
            yield next((path for path in mounts if path.is_dir()), root / "cpu"), own


def _way_up(top: Path, own: str) -> Iterator[Path]:
    """Folders of a group and of those above it. In a container they may not be there: its own group
    is then the topmost.
    """
    parts = [part for part in own.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        folder = top.joinpath(*parts[:count])
        if folder.is_dir():
            yield folder


def _cpus(folder: Path) -> float | None:
    """The limit of one group; None without one."""
    match _words(folder / "cpu.max"):
        case [quota, period] if quota != "max":
            return int(quota) / int(period)
    match _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us"):
        case [quota], [period] if int(quota) > 0:
            return int(quota) / int(period)
    return None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
