"""Finished steps of a contest on disk: selections, fine-tuned networks, and failures.

A step is finished when its JSON file is there, which is written last.
"""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from latency_service.core.files import write_whole
from pruning_client.execution.copies import copied
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.graph import checkpoint
from pruning_client.graph.space import Exported, Traced
from pruning_client.graph.surgery import slim
from pruning_client.latency.predictor import Widths
from pruning_client.methods.base import Picture, Selection, best_channels
from pruning_client.pipeline import artifacts
from pruning_client.pipeline.quantisation import NetworkFile
from pruning_client.pipeline.workshop import DeliveredFile

STEP = "step.json"
FAILURE = "failure.json"
_TENSORS = "selection.safetensors"
_SECONDS = "seconds.json"
_ARRAYS = ("keep", "scores")
#: Least time between two writes of the seconds of a step.
_WRITE_SECONDS = 1.0


class StepRecord(BaseModel):
    """What every finished step keeps."""

    #: Wall time over all sittings.
    seconds: float
    #: Wall time by phase, of the last sitting.
    timings_seconds: dict[str, float]
    warnings: list[str]


class SelectionRecord(StepRecord):
    """A method's selection, beside its arrays: the other fields of `Selection`."""

    rest: dict[str, Any]


class FileRecord(StepRecord):
    """A fine-tuned network, beside its files."""

    widths: Widths
    accuracy: float
    float_accuracy: float
    float_layers: tuple[str, ...]
    denormals_flushed: int
    history: list[dict[str, Any]]


class FailureRecord(BaseModel):
    """The reason why a step failed."""

    message: str


@dataclass(frozen=True, kw_only=True)
class Selected:
    """A method's selection, and the full-size network with the weights that the method trained."""

    whole: nn.Module
    selection: Selection
    record: SelectionRecord


@dataclass(frozen=True, kw_only=True)
class Made:
    """A fine-tuned network and its file."""

    file: DeliveredFile
    record: FileRecord


def save_failure(folder: Path, message: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / FAILURE, FailureRecord(message=message))


def failure_of(folder: Path) -> str | None:
    """The reason why the step of this folder failed, or None."""
    path = folder / FAILURE
    return FailureRecord.model_validate_json(path.read_text()).message if path.exists() else None


def is_finished(folder: Path) -> bool:
    """Whether the step of this folder is finished, well or with a failure."""
    return (folder / STEP).exists() or (folder / FAILURE).exists()


def save_selection(folder: Path, dense: nn.Module, selected: Selected) -> None:
    """Write a selection; of the network, the tensors that differ from the dense one's."""
    known = dense.state_dict()
    tensors = {
        f"model.{name}": _plain(value)
        for name, value in selected.whole.state_dict().items()
        if not torch.equal(value, known[name])
    }
    for name in _ARRAYS:
        for group, array in enumerate(getattr(selected.selection, name)):
            tensors[f"{name}.{group}"] = torch.from_numpy(array)
    save_file(tensors, folder / _TENSORS)
    _write(folder / STEP, selected.record)


def load_selection(folder: Path, dense: nn.Module, groups: int) -> Selected:
    """The selection of a finished step.

    Args:
        groups: Number of width groups.
    """
    record = SelectionRecord.model_validate_json((folder / STEP).read_text())
    tensors = load_file(folder / _TENSORS)
    whole = copied(dense)
    changed = {
        name.removeprefix("model."): value
        for name, value in tensors.items()
        if name.startswith("model.")
    }
    whole.load_state_dict(whole.state_dict() | changed)
    arrays = {
        name: [tensors[f"{name}.{group}"].numpy() for group in range(groups)] for name in _ARRAYS
    }
    return Selected(
        whole=whole,
        selection=Selection(
            keep=arrays["keep"], scores=arrays["scores"], **_as_fields(record.rest)
        ),
        record=record,
    )


def rest_of(selection: Selection) -> dict[str, Any]:
    """The fields of a selection that are no arrays, as JSON holds them: pictures in base64."""
    rest = {
        entry.name: getattr(selection, entry.name)
        for entry in fields(selection)
        if entry.name not in _ARRAYS
    }
    pictures = [asdict(one) | {"png": b64encode(one.png).decode()} for one in selection.pictures]
    return rest | {"pictures": pictures}


def _as_fields(rest: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `rest_of`."""
    pictures = [Picture(**one | {"png": b64decode(one["png"])}) for one in rest["pictures"]]
    return rest | {"pictures": pictures}


def save_made(folder: Path, traced: Traced, made: Made) -> None:
    """Write a fine-tuned network and its files."""
    file = made.file.file
    checkpoint.save(made.file.module, traced, made.file.keep, folder / artifacts.CHECKPOINT)
    write_whole(folder / artifacts.ONNX, file.data)
    if file.is_quantised:
        write_whole(folder / artifacts.FLOAT_ONNX, file.float_data)
    _write(folder / STEP, made.record)


def load_record(folder: Path) -> FileRecord:
    return FileRecord.model_validate_json((folder / STEP).read_text())


def load_made(folder: Path, traced: Traced, selected: Selected) -> Made:
    """The network of a finished step."""
    record = load_record(folder)
    keep = best_channels(selected.selection.scores, record.widths)
    module = slim(selected.whole, traced, keep)
    module.load_state_dict(load_file(folder / artifacts.CHECKPOINT))
    exported = Exported(path=folder / artifacts.ONNX, denormals_flushed=record.denormals_flushed)
    return Made(
        file=DeliveredFile(
            module=module.eval(),
            keep=keep,
            widths=record.widths,
            exported=exported,
            file=_network_file(folder, record),
        ),
        record=record,
    )


def _network_file(folder: Path, record: FileRecord) -> NetworkFile:
    data = (folder / artifacts.ONNX).read_bytes()
    plain = folder / artifacts.FLOAT_ONNX
    return NetworkFile(
        data=data,
        accuracy=record.accuracy,
        float_data=plain.read_bytes() if plain.exists() else data,
        float_accuracy=record.float_accuracy,
        float_layers=record.float_layers,
    )


def _plain(value: Tensor) -> Tensor:
    return value.detach().cpu().clone().contiguous()


def _write(path: Path, record: BaseModel) -> None:
    write_whole(path, record.model_dump_json().encode())


class KeptSeconds:
    """Wall time of a step over all its sittings: a stopped step goes on counting.

    Args:
        folder: Folder of the step.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = folder / _SECONDS
        self._clock = clock
        self._before = float(json.loads(self._path.read_text())) if self._path.exists() else 0.0
        self._begun = self._written = clock()

    @property
    def goes_on(self) -> bool:
        """Whether the step was stopped before."""
        return self._before > 0

    @property
    def seconds(self) -> float:
        return self._before + self._clock() - self._begun

    def seen_by(self, progress: Progress) -> Progress:
        """A callback that also writes the seconds down, once a second at most."""

        def report(event: ProgressEvent) -> None:
            if self._clock() - self._written >= _WRITE_SECONDS:
                self._written = self._clock()
                write_whole(self._path, json.dumps(self.seconds).encode())
            progress(event)

        return report


class SharedJournal(Journal):
    """Journal of what a method does once for all budgets. It notes how long that took, so that the
    times of all budgets include it.

    Args:
        folder: Folder of the journal, which is resumed.
        step: Folder of the step that uses it.
        seconds: Those of this step.
    """

    def __init__(self, folder: Path, step: Path, seconds: KeptSeconds) -> None:
        super().__init__(folder, resume=True)
        self._path = folder / _SECONDS
        self._step = str(step)
        self._seconds = seconds
        #: Seconds spent on what is kept here, by the folders of the steps.
        self._spent = json.loads(self._path.read_text()) if self._path.exists() else {}
        own = {self._step} if seconds.goes_on else set()
        #: Seconds spent here that are not among those of this step.
        self.earlier_seconds = sum(self._spent[by] for by in self._spent.keys() - own)

    def save(self, phase: str, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        super().save(phase, tensors, values)
        self._spent[self._step] = self._seconds.seconds
        write_whole(self._path, json.dumps(self._spent).encode())
