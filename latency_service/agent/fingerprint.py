"""Facts about this machine that change latency (hashed), and its current state (not hashed)."""

from __future__ import annotations

import hashlib
import os
import platform
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
import psutil

from latency_service.agent.measuring import threads
from latency_service.agent.measuring.canaries import CANARY_VERSION
from latency_service.agent.measuring.pinning import allowed_cores, chosen_cores, core_speed
from latency_service.agent.measuring.quota import quotas
from latency_service.devices.schemas import Fingerprint, RuntimeConfig

_CPU = Path("/sys/devices/system/cpu")
Fact = str | int | float | bool | None


def fingerprint(runtime: RuntimeConfig) -> Fingerprint:
    """Fingerprint of this machine with `runtime`, as it is now."""
    return Fingerprint(
        runtime=runtime,
        facts=facts(runtime.provider) | _threads(runtime.intra_threads),
        context=context(),
    )


def facts(provider: str = "CPUExecutionProvider") -> dict[str, Fact]:
    """Facts that change latency, and no others; a restart of the machine does not change them."""
    fields = _cpuinfo()
    flags = " ".join(sorted(fields.get("flags", fields.get("features", "")).split()))
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "board": board(),
        "processor": fields.get("model name") or processor_parts() or platform.machine(),
        "processor_family": "/".join(
            fields.get(key, "") for key in ("cpu family", "model", "stepping")
        ),
        "flags_sha256": hashlib.sha256(flags.encode()).hexdigest()[:16],
        "cores": psutil.cpu_count(logical=True),
        "physical_cores": psutil.cpu_count(logical=False),
        "allowed_cores": len(allowed_cores()),
        "core_kinds": core_kinds(),
        "cgroup_cpus": next((quota.cpus for quota in quotas()), None),
        "governor": clock_setting("scaling_governor"),
        "most_khz": clock_setting("scaling_max_freq"),
        "turbo": turbo(),
        "smt": read(_CPU / "smt/active"),
        "onnxruntime": ort.__version__,
        "onnxruntime_build": ort.get_build_info() if hasattr(ort, "get_build_info") else None,
        "accelerator": _accelerator(provider),
        "canaries": CANARY_VERSION,
    }


def _threads(count: int) -> dict[str, Fact]:
    """How sessions of several threads are measured."""
    return {"shared_threads": threads.IS_POSSIBLE} if count > 1 else {}


def context() -> dict[str, Any]:
    """Current state of the machine; stored with a measurement, never hashed."""
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return {
        "load": load(),
        "temperature_c": temperature_c(),
        "clock_mhz": frequency.current if frequency else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "memory_available_bytes": psutil.virtual_memory().available,
        "affinity": allowed_cores(),
    }


def board(path: Path = Path("/proc/device-tree/model")) -> str | None:
    """Model of a board that has a device tree, such as ``Raspberry Pi 4 Model B Rev 1.4``."""
    return (read(path) or "").strip("\0 ") or None


def processor_parts(path: Path = Path("/proc/cpuinfo")) -> str | None:
    """Kinds of cores of a processor that Linux knows by numbers only, as on Arm, with how many
    there are of each: ``4x 0x41/0xd03 + 4x 0x41/0xd09`` (implementer and part).
    """
    blocks = [_fields(block) for block in (read(path) or "").split("\n\n")]
    parts = Counter(
        f"{fields['cpu implementer']}/{fields['cpu part']}"
        for fields in blocks
        if "cpu part" in fields
    )
    return _counted(parts)


def clock_setting(name: str, system: Path = _CPU) -> str | None:
    """A setting of the clock of the core that a single thread is measured on; None if the system
    does not report it.
    """
    return read(system / f"cpu{chosen_cores(1, system)[0]}" / "cpufreq" / name)


def core_kinds(system: Path = _CPU) -> str | None:
    """How many of the allowed cores have which speed (`pinning.core_speed`): ``4x 446 + 4x 1024``
    on a big.LITTLE processor. None where all are equal.
    """
    speeds = Counter(core_speed(core, system) for core in allowed_cores())
    return _counted(speeds) if len(speeds) > 1 else None


def _counted(kinds: Mapping[Any, int]) -> str | None:
    return " + ".join(f"{kinds[kind]}x {kind}" for kind in sorted(kinds)) or None


def load() -> float | None:
    """1-minute load average."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def temperature_c() -> float | None:
    """Temperature of the hottest sensor in °C; None if the machine has no sensor."""
    sensors: dict[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
    values = [entry.current for entries in sensors.values() for entry in entries if entry.current]
    return max(values, default=None)


def turbo() -> bool | None:
    """Whether the clock may exceed its base frequency; None if the system does not report it."""
    boost = read(_CPU / "cpufreq/boost")
    none = read(_CPU / "intel_pstate/no_turbo")
    if boost is not None:
        return boost == "1"
    return None if none is None else none == "0"


def read(path: Path) -> str | None:
    """Stripped content of a small system file; None if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _accelerator(provider: str) -> str | None:
    """Model and driver version of the NVIDIA GPU that the provider uses; None for others."""
    if provider in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        driver = read(Path("/sys/module/nvidia/version"))
        models = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        names = [
            line.split(":", 1)[1].strip()
            for path in models[:1]
            for line in (read(path) or "").splitlines()
            if line.startswith("Model")
        ]
        return f"{names[0] if names else 'unknown'} driver {driver}"
    return None


def _cpuinfo(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Fields of the first processor, names in lower case."""
    return _fields((read(path) or "").split("\n\n")[0])


def _fields(block: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip().lower(): value.strip() for key, value in pairs}
