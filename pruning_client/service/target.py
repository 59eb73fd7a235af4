"""What is measured: a device and a runtime configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from latency_service.core.runtimes import DEFAULT_PROVIDER, Precision

if TYPE_CHECKING:
    from latency_service.devices.schemas import DeviceView, RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class Target:
    """A device and the runtime configuration in which the network will run there."""

    #: name of the device; by default the only one that the service knows
    device: str | None = None
    #: ONNX Runtime execution provider
    provider: str = DEFAULT_PROVIDER
    #: number of intra-op threads
    threads: int = 1
    #: images per run
    batch: int = 1
    #: precision of the file that is measured and delivered
    precision: Precision = "fp32"

    @property
    def runtime(self) -> RuntimeConfig:
        """The runtime configuration as the service names it."""
        from latency_service.devices.schemas import RuntimeConfig

        return RuntimeConfig(
            provider=self.provider,
            intra_threads=self.threads,
            batch=self.batch,
            precision=self.precision,
        )


@dataclass(frozen=True, kw_only=True)
class DeviceTarget:
    """A target whose device the service knows."""

    device: DeviceView
    runtime: RuntimeConfig

    def at(self, precision: Precision) -> DeviceTarget:
        """The same target with files of another precision."""
        return replace(self, runtime=self.runtime.model_copy(update={"precision": precision}))

    @property
    def key(self) -> str:
        """Device and runtime, for example ``board CPUExecutionProvider/t1/b1/fp32``."""
        return f"{self.device.name} {self.runtime.key}"


#: What a user may give as the target of a job: the name of a device, a target, or several, every
#: one of which has to meet the budget.
TargetLike = str | Target | Sequence[str | Target]


def as_targets(given: TargetLike | None) -> tuple[Target, ...]:
    """Targets, each once; the only device in the default configuration when none is given."""
    if given is None:
        return (Target(),)
    several = [given] if isinstance(given, (str, Target)) else given
    targets = [Target(device=one) if isinstance(one, str) else one for one in several]
    return tuple(dict.fromkeys(targets)) or (Target(),)
