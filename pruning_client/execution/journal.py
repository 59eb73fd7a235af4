"""Journal of a job: external answers and training state, with which a stopped job is resumed to the
same result.

A pruning job is determined by its settings, its seed and external answers: measurements,
predictors, names. A resumed job runs again from the beginning, reads the same answers from the
journal and skips finished training, so its result is bit-identical.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from latency_service.core.files import write_whole
from pruning_client.errors import UsageError
from pruning_client.execution import distributed

FOLDER = "checkpoint"
#: Folder, in that of several budgets, of what does not depend on the budget.
SHARED = "shared"
#: Stands for a dictionary whose keys are no strings.
_PAIRS = "key-value pairs"
V = TypeVar("V")
Tensors = dict[str, Tensor]


class Journal:
    """External answers in their order, and checkpoints by phase.

    Args:
        folder: Folder of the journal, or None to keep nothing.
        resume: Whether to replay the answers in the folder; otherwise they are deleted.
    """

    def __init__(self, folder: Path | None = None, *, resume: bool = False) -> None:
        self._folder = folder
        self._at = 0
        self._entries: list[dict[str, str]] = []
        if folder is not None and distributed.rank() == 0:
            self._open(folder, resume)

    @property
    def resumes(self) -> bool:
        """Whether there are answers that have not been replayed yet."""
        return self._at < len(self._entries)

    def value(self, what: str, kind: Any, make: Callable[[], V]) -> V:
        """Result of `make`, or its result before the job was stopped, in every process of the job.

        Args:
            what: Name of the question.
            kind: Type of the answer, known to pydantic.

        Raises:
            UsageError: The answer in the journal belongs to another question.
        """
        adapter = TypeAdapter(kind)
        found: V = adapter.validate_json(
            distributed.from_first(lambda: self._next(what, adapter, make))
        )
        return found

    def data(self, what: str, make: Callable[[], bytes]) -> bytes:
        """Bytes that `make` returns, kept like `value`."""
        return base64.b64decode(self.value(what, str, lambda: base64.b64encode(make()).decode()))

    def check(self, identity: str) -> None:
        """Record the identity of this job, or compare it with the recorded one.

        Raises:
            UsageError: The journal belongs to another job.
        """
        kept = self.value("job", str, lambda: identity)
        if kept != identity:
            raise UsageError(
                f"The checkpoint in {self._folder} belongs to another job: other settings, "
                "data, weights or devices.",
                "Give the same options as before, or start again without --resume (`resume`).",
            )

    def save(self, phase: str, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Save the state of a phase of training atomically; only the first process writes."""
        if self._folder is None or distributed.rank() > 0:
            return
        state = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        path = self._folder / f"{phase}.safetensors"
        content = save(
            {**state, "random": torch.get_rng_state()},
            {"values": json.dumps(_as_json(dict(values)))},
        )
        write_whole(path, content)

    def load(self, phase: str) -> tuple[Tensors, dict[str, Any]] | None:
        """Last saved state of a phase, or None; also restores torch's random generator."""
        path = None if self._folder is None else self._folder / f"{phase}.safetensors"
        if path is None or not path.exists():
            return None
        try:
            tensors, values = _read_checkpoint(path)
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise UsageError(
                f"The checkpoint {path} cannot be read: {error}.",
                "Start again without --resume (`resume`).",
            ) from error
        torch.set_rng_state(tensors.pop("random"))
        return tensors, values

    def close(self) -> None:
        """Delete the journal of a finished job."""
        if self._folder is not None and distributed.rank() == 0:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _open(self, folder: Path, resume: bool) -> None:
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._entries = json.loads((folder / "journal.json").read_text())

    def _next(self, what: str, adapter: TypeAdapter[V], make: Callable[[], V]) -> str:
        if not self.resumes:
            text = adapter.dump_json(make()).decode()
            self._entries.append({"what": what, "value": text})
            self._write()
        entry = self._entries[self._at]
        self._at = self._at + 1
        if entry["what"] != what:
            raise UsageError(
                f"The checkpoint in {self._folder} belongs to another job: it holds "
                f"{entry['what']!r} where {what!r} is expected.",
                "Start again without --resume (`resume`).",
            )
        return entry["value"]

    def _write(self) -> None:
        if self._folder is not None:
            write_whole(self._folder / "journal.json", json.dumps(self._entries).encode())


def _as_json(value: Any) -> Any:
    """A value of lists and dictionaries with keys that JSON can hold: a schedule's milestones are
    numbers.
    """
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    if not isinstance(value, dict):
        return value
    if all(isinstance(key, str) for key in value):
        return {key: _as_json(one) for key, one in value.items()}
    return {_PAIRS: [[key, _as_json(one)] for key, one in value.items()]}


def _with_own_keys(read: dict[str, Any]) -> dict[Any, Any]:
    """The inverse of `_as_json` for one dictionary."""
    return dict(read[_PAIRS]) if read.keys() == {_PAIRS} else read


def _read_checkpoint(path: Path) -> tuple[Tensors, dict[str, Any]]:
    with safe_open(str(path), framework="pt") as file:
        values = json.loads((file.metadata() or {})["values"], object_hook=_with_own_keys)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
    return tensors, values
