"""What the phases of one pruning job share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from latency_service.devices.schemas import DeviceView
from latency_service.spaces.slicing import materialise
from pruning_client import artefacts
from pruning_client.budget import Budget
from pruning_client.client import Client
from pruning_client.config import PruneConfig
from pruning_client.data import Batches
from pruning_client.finetune import accuracy
from pruning_client.graph.proof import weights_of
from pruning_client.groups import Exported, Traced, export_onnx, flush_denormals
from pruning_client.methods.base import Ints
from pruning_client.progress import Progress
from pruning_client.verify import Measured, Verifier, Widths


@dataclass(kw_only=True)
class Job:
    """What the phases of one job share."""

    model: nn.Module
    train: Batches
    held_out: Batches
    example: Tensor
    budget: Budget
    client: Client
    config: PruneConfig
    progress: Progress
    folder: Path
    name: str
    device: DeviceView
    traced: Traced
    watch: artefacts.Stopwatch = field(default_factory=artefacts.Stopwatch)

    @property
    def space_id(self) -> str:
        return self.traced.space.id

    @property
    def full(self) -> Widths:
        return tuple(self.traced.space.full_widths)

    def verifier(self) -> Verifier:
        return Verifier(
            client=self.client, device=self.device.name, runtime=self.config.runtime, space_id=self.space_id,
            config=self.config.verify, progress=self.progress,
        )  # fmt: skip

    def measure_structure(self, model: nn.Module, keep: Sequence[Ints], phase: str) -> Measured:
        """Time what is left of a full-size model when only `keep` stays, weights and all; nothing needs exporting."""
        with self.watch(phase):
            widths = [len(index) for index in keep]
            graph = materialise(self.traced.space, widths, keep=keep, weights=weights_of(model, self.traced.weights))
            flush_denormals(graph)
            data = graph.SerializeToString(deterministic=True)
            return self.verifier().measure(data, widths, phase=phase)

    def measure_file(self, module: nn.Module, widths: Sequence[int], phase: str) -> tuple[Measured, Exported]:
        """Export the network to deliver and time that very file."""
        with self.watch(phase):
            exported = export_onnx(module, self.example, self.folder / artefacts.ONNX)
            return self.verifier().measure(exported.path.read_bytes(), widths, phase=phase), exported

    def evaluate(self, module: nn.Module) -> float:
        return accuracy(module, self.held_out)
