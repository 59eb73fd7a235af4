"""What makes this machine's measurements unsteady, and the cure of each: looked at without root, on
any system.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import httpx2
import onnx
import onnxruntime as ort
import psutil
from pydantic import BaseModel, ConfigDict

from latency_service.agent import fingerprint
from latency_service.agent.main import max_opset
from latency_service.agent.measuring.pinning import allowed_cores
from latency_service.agent.measuring.quota import Quota, quotas
from latency_service.core.transport import ApiError, Transport

NOT_TOLD = "not told by this system"
#: How long the other users of the cores are watched, and the share of one core from which on one of
#: them is named.
WATCH_SECONDS = 0.5
NAMED_SHARE = 0.1
#: Share of all cores that others may use, and that the hypervisor may take, without harm.
BUSY_SHARE = 0.1
STOLEN_SHARE = 0.01
#: Degrees Celsius from which on processors begin to lower their clock.
HOT_C = 85.0
_CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
#: Clock sources that are read by a call into the kernel or over a bus: microseconds instead of
#: nanoseconds.
_SLOW_CLOCKS = {"hpet", "acpi_pm", "jiffies", "refined-jiffies", "xen"}


#: What does not work on other systems than Linux, by the name that Python gives them.
_LACKING = {
    "Darwin": "cores cannot be chosen (macOS places threads on performance or efficiency cores as "
    "it likes), clocks and temperature are not seen, the memory of a network is not limited, and a "
    "measuring process outlives an agent that is killed",
    "Windows": "cores cannot be chosen, priority is not raised, processor time and memory of a "
    "network are not limited, clocks, temperature and load are not seen, and neither a second "
    "agent nor a trainer on this machine is kept from disturbing",
}
#: What the agent (some 100 MB) and the measuring process of a small network take together.
LEAST_MEMORY_BYTES = 250_000_000
#: Largest result, unpacked, and largest model, that a service takes by default.
LEAST_RESULT_BYTES = 20 << 20
LEAST_DISK_BYTES = 256 << 20
_READ_ONLY = (
    "On a read-only root file system, mount a tmpfs on /tmp and give the agent a writable folder: "
    "--state-dir, or LATENCY_SERVICE_STATE_DIR."
)


class Finding(BaseModel):
    """One thing that was looked at; a ``warning`` makes measurements unsteady, an ``error``
    prevents them.
    """

    model_config = ConfigDict(frozen=True)

    check: str
    level: Literal["ok", "warning", "error"]
    found: str
    cure: str = ""


class Usage(NamedTuple):
    """Who used the cores while they were watched, as shares of all of them, and the greatest users
    by name.
    """

    busy: float
    stolen: float
    names: list[str]


def examine(state: Path, server: str | None = None) -> list[Finding]:
    """Look at this machine for half a second; with `server`, also whether that service answers.

    Args:
        state: the agent's state folder, which need not exist yet.
    """
    usage = watch()
    findings = [
        system(platform.system()),
        folders(state),
        privacy(state),
        disk(state),
        memory(psutil.virtual_memory().total, psutil.virtual_memory().available),
        priority(may_hurry()),
        governor(fingerprint.clock_setting("scaling_governor")),
        turbo(fingerprint.turbo()),
        temperature(fingerprint.temperature_c()),
        others(usage, fingerprint.load()),
        hypervisor(usage),
        clock_source(fingerprint.read(_CLOCK)),
        quota(next(iter(quotas()), None), len(allowed_cores())),
        runtime(),
        providers(ort.get_available_providers()),
    ]
    return findings if server is None else [*findings, service(server)]


def system(name: str) -> Finding:
    """What works on this operating system, plainly."""
    if name == "Linux":
        return _ok("system", f"Linux {platform.machine()}: everything works")
    lacking = _LACKING.get(name, "nobody has tried anything else on it")
    return _warning(
        "system",
        f"{name}: enrolling, measuring, delivering and canaries work; {lacking}. It is not tested "
        "on this system",
        "Use it for trying out; measure on Linux where a budget depends on it.",
    )


def folders(state: Path) -> Finding:
    """Whether the agent can write what it has to: its state, and temporary files."""
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError:
        return _error("folders", "no folder for temporary files", _READ_ONLY)
    closed = [str(place) for place in (temporary, _existing(state)) if not _is_writable(place)]
    if closed:
        return _error("folders", f"{', '.join(closed)} cannot be written", _READ_ONLY)
    return _ok("folders", f"state in {state}, temporary files in {temporary}")


def privacy(state: Path) -> Finding:
    """Whether others on this machine can read the agent's token and what it was given."""
    if os.name != "posix" or not state.exists():
        return _ok("privacy", f"{state} is made for its owner alone")
    mode = stat.S_IMODE(state.stat().st_mode)
    if mode & 0o077 == 0:
        return _ok("privacy", f"{state} belongs to its owner alone")
    return _warning(
        "privacy",
        f"{state} has mode {mode:o}: others on this machine see the agent's token and models",
        f"Run: chmod 700 {state}",
    )


def disk(state: Path) -> Finding:
    """Whether results fit into the state folder until they are delivered, and models that are
    fetched.
    """
    free_bytes = shutil.disk_usage(_existing(state)).free
    found = f"{free_bytes / 1e6:.0f} MB free in {state}"
    cure = "Free disk space, or give another folder: --state-dir, or LATENCY_SERVICE_STATE_DIR."
    if free_bytes < LEAST_RESULT_BYTES:
        return _error("disk", f"{found}: no result can be kept", cure)
    if free_bytes < LEAST_DISK_BYTES:
        return _warning("disk", f"{found}: large models may not fit", cure)
    return _ok("disk", found)


def memory(total_bytes: int, available_bytes: int) -> Finding:
    """Whether a measuring process fits beside the agent."""
    found = f"{available_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB available"
    if available_bytes >= LEAST_MEMORY_BYTES:
        return _ok("memory", found)
    return _warning(
        "memory",
        f"{found}: larger networks end as `device_oom`",
        "Stop other programs. Swap does not help: what is swapped out is measured too.",
    )


def priority(may_raise: bool) -> Finding:
    """Whether measuring processes may run before other programs."""
    if may_raise:
        return _ok("priority", "measuring goes before other programs")
    return Finding(
        check="priority",
        level="ok",
        found="as other programs: while they are busy, more rounds are needed",
        cure="Run the agent by its systemd unit, which permits it (LimitNICE), or as root.",
    )


def may_hurry() -> bool:
    """Whether this process may raise its priority as far as measuring processes ask for."""
    if os.name != "posix":
        return False
    import resource

    limit = getattr(resource, "RLIMIT_NICE", None)
    # the limit counts from 0 (niceness 20) to 40 (niceness -20)
    permitted = limit is not None and resource.getrlimit(limit)[0] in (resource.RLIM_INFINITY, 40)
    return os.geteuid() == 0 or permitted


def _is_writable(folder: Path) -> bool:
    """By trying: permissions say nothing about a file system that is read-only or full."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError:
        return False
    return True


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def governor(value: str | None) -> Finding:
    if value in (None, "performance"):
        return _ok("governor", value)
    return _warning(
        "governor",
        f"{value}: the clock follows the load",
        "Hold it: sudo cpupower frequency-set -g performance.",
    )


def turbo(enabled: bool | None) -> Finding:
    if not enabled:
        return _ok("turbo", None if enabled is None else "off")
    return _warning(
        "turbo",
        "on: the clock depends on temperature and on the other cores",
        "Switch it off for steady clocks: write 0 to /sys/devices/system/cpu/cpufreq/boost, or "
        "1 to "
        "/sys/devices/system/cpu/intel_pstate/no_turbo, as root.",
    )


def temperature(celsius: float | None) -> Finding:
    if celsius is None or celsius < HOT_C:
        return _ok("temperature", None if celsius is None else f"{celsius:.0f} °C")
    return _warning(
        "temperature",
        f"{celsius:.0f} °C: the clock is being lowered",
        "Cool the device, or let it rest.",
    )


def others(usage: Usage, load: float | None) -> Finding:
    """Whether other processes use the cores."""
    found = f"{usage.busy:.0%} of the cores in use" + ("" if load is None else f", load {load:.2f}")
    if usage.busy < BUSY_SHARE:
        return _ok("other users", found)
    named = f" ({', '.join(usage.names)})" if usage.names else ""
    return _warning(
        "other users",
        found + named,
        "Stop what else runs here, or expect more rounds and `unstable`.",
    )


def hypervisor(usage: Usage) -> Finding:
    found = f"{usage.stolen:.1%} of the time taken"
    if usage.stolen < STOLEN_SHARE:
        return _ok("hypervisor", found)
    return _warning(
        "hypervisor", found, "Measure on a machine of its own, or on one with dedicated cores."
    )


def clock_source(name: str | None) -> Finding:
    if name not in _SLOW_CLOCKS:
        return _ok("clock source", name)
    return _warning(
        "clock source",
        f"{name}: reading the time takes about a microsecond",
        "Boot with clocksource=tsc if this processor's is steady.",
    )


def quota(smallest: Quota | None, cores: int) -> Finding:
    """Whether a control group halts this process before it has used its cores."""
    if smallest is None:
        return _ok("quota", f"none on {cores} cores" if os.name == "posix" else None)
    return _warning(
        "quota",
        f"{smallest.cpus:g} processors' worth of time on {cores} cores, set by the control group "
        f"{smallest.group}: runs are halted when it is used up",
        smallest.cure,
    )


def runtime() -> Finding:
    """Whether ONNX Runtime runs at all, by trying."""
    versions = f"onnxruntime {ort.__version__}, onnx {onnx.__version__}"
    try:
        return _ok("runtime", f"{versions}: up to opset {max_opset()}")
    except RuntimeError as error:
        return Finding(
            check="runtime",
            level="error",
            found=f"{versions}: {error}",
            cure="pip install --force-reinstall onnxruntime onnx",
        )


def providers(names: Sequence[str]) -> Finding:
    if "CPUExecutionProvider" in names:
        return _ok("providers", ", ".join(names))
    return Finding(
        check="providers",
        level="error",
        found=", ".join(names) or "none: targets without an accelerator need CPUExecutionProvider",
        cure="pip install --force-reinstall onnxruntime",
    )


def service(url: str) -> Finding:
    """Whether the service at `url` answers."""
    try:
        with Transport(url, timeout_seconds=5.0) as http:
            http.request("GET", "/healthz")
    except ApiError as error:
        return Finding(check="service", level="error", found=error.message, cure=error.cure)
    except httpx2.InvalidURL as error:
        return Finding(
            check="service",
            level="error",
            found=f"{url!r} is no address: {error}",
            cure="Give one like http://127.0.0.1:8760.",
        )
    return _ok("service", f"{url} answers")


def watch(seconds: float = WATCH_SECONDS) -> Usage:
    """Watch the cores for `seconds`, doing nothing meanwhile."""
    processes = [process for process in psutil.process_iter() if process.pid != os.getpid()]
    dict(_shares(processes))  # psutil counts from the first question on
    total = psutil.cpu_times_percent(seconds)
    shares = sorted(_shares(processes), key=lambda pair: -pair[1])
    return Usage(
        1 - total.idle / 100 - getattr(total, "iowait", 0.0) / 100,
        getattr(total, "steal", 0.0) / 100,
        [f"{name} {share:.0%}" for name, share in shares[:3] if share >= NAMED_SHARE],
    )


def _shares(processes: Sequence[psutil.Process]) -> Iterator[tuple[str, float]]:
    """Name of each process that still runs and may be seen, and the share of one core that it
    used.
    """
    for process in processes:
        try:
            yield process.name(), process.cpu_percent() / 100
        except psutil.Error:
            continue


def _ok(check: str, found: str | None) -> Finding:
    return Finding(check=check, level="ok", found=found or NOT_TOLD)


def _error(check: str, found: str, cure: str) -> Finding:
    return Finding(check=check, level="error", found=found, cure=cure)


def _warning(check: str, found: str, cure: str) -> Finding:
    return Finding(check=check, level="warning", found=found, cure=cure)
