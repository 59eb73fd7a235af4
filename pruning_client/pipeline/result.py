"""The result of a pruning job: the network, the measured file and the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from latency_service.core.files import write_whole
from pruning_client.pipeline import artifacts
from pruning_client.reports.html import render
from pruning_client.reports.schema import Report


@dataclass(frozen=True, kw_only=True)
class PruneResult:
    """A pruned network and its proof."""

    #: pruned network in eval mode, on the torch device of the dense one
    module: nn.Module
    report: Report
    #: content of ``pruned.onnx``: the very file that was measured
    file: bytes = field(repr=False)
    #: content of ``pruned-fp32.onnx``, where the file is int8
    float_file: bytes | None = field(default=None, repr=False)
    #: content of ``pruned.safetensors``: tensors of the pruned network, for `load`
    checkpoint: bytes = field(repr=False)
    #: folder with the files; None when no `out_dir` was given
    folder: Path | None = None

    @property
    def met(self) -> bool:
        """Whether the measured latency is within the budget on every target."""
        return self.report.met

    @property
    def widths(self) -> dict[str, int]:
        """Channels kept, by the name of the width group."""
        return {group.name: group.after for group in self.report.widths}

    def _repr_html_(self) -> str:
        """What a notebook shows: the report in short."""
        return self.report._repr_html_()

    def save(self, folder: Path | str) -> Path:
        """Write pruned.onnx, pruned.safetensors, report.json and report.html to a folder, and for
        an int8 file pruned-fp32.onnx.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        report = self.report.model_dump_json(indent=2) + "\n"
        if self.float_file is not None:
            write_whole(target / artifacts.FLOAT_ONNX, self.float_file, mode=0o644)
        for name, content in (
            (artifacts.ONNX, self.file),
            (artifacts.CHECKPOINT, self.checkpoint),
            (artifacts.REPORT, report.encode()),
            (artifacts.PAGE, render(self.report).encode()),
        ):
            write_whole(target / name, content, mode=0o644)
        return target
