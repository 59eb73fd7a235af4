"""What a job learnt from outside, and the state of its training: what is needed to end as if it had
not been stopped.

Everything that a pruning job computes follows from its settings, its seed and what came from
outside: measurements, predictors, names. A resumed job is the same job run again that is given the
same answers and skips the training that is done, so its result is the same bytes.
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
V = TypeVar("V")
Tensors = dict[str, Tensor]


class Journal:
    """Answers from outside, in the order in which they came, and checkpoints by phase.

    Args:
        folder: where they are kept, or None to keep nothing.
        resume: give the answers that are there again; otherwise what is there is removed.
    """

    def __init__(self, folder: Path | None = None, *, resume: bool = False) -> None:
        self._folder = folder
        self._at = 0
        self._entries: list[dict[str, str]] = []
        if folder is not None and distributed.rank() == 0:
            self._open(folder, resume)

    @property
    def resumes(self) -> bool:
        """Whether there are answers that have not been asked for again yet."""
        return self._at < len(self._entries)

    def value(self, what: str, kind: Any, make: Callable[[], V]) -> V:
        """The answer that `make` gives, or gave before the job was stopped; in every process of the
        job.

        Raises:
            UsageError: the answer that was kept is to another question.
        """
        adapter = TypeAdapter(kind)
        found: V = adapter.validate_json(
            distributed.from_first(lambda: self._next(what, adapter, make))
        )
        return found

    def data(self, what: str, make: Callable[[], bytes]) -> bytes:
        """Bytes from outside, kept likewise."""
        return base64.b64decode(self.value(what, str, lambda: base64.b64encode(make()).decode()))

    def check(self, identity: str) -> None:
        """Tell what makes this job the job that it is.

        Raises:
            UsageError: what was kept belongs to another one.
        """
        kept = self.value("job", str, lambda: identity)
        if kept != identity:
            raise UsageError(
                f"The checkpoint in {self._folder} belongs to another job: other settings, "
                "data, weights or devices.",
                "Give the same options as before, or start afresh without --resume (`resume`).",
            )

    def save(self, phase: str, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Keep the state of a phase of training, whole or not at all; the first process writes."""
        if self._folder is None or distributed.rank() > 0:
            return
        state = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        path = self._folder / f"{phase}.safetensors"
        content = save(
            {**state, "random": torch.get_rng_state()}, {"values": json.dumps(dict(values))}
        )
        write_whole(path, content)

    def load(self, phase: str) -> tuple[Tensors, dict[str, Any]] | None:
        """The last state kept of a phase, or None; torch's random numbers go on from there."""
        path = None if self._folder is None else self._folder / f"{phase}.safetensors"
        if path is None or not path.exists():
            return None
        try:
            with safe_open(str(path), framework="pt") as file:
                values = json.loads((file.metadata() or {})["values"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise UsageError(
                f"The checkpoint {path} cannot be read: {error}.", "Start afresh."
            ) from error
        torch.set_rng_state(tensors.pop("random"))
        return tensors, values

    def close(self) -> None:
        """The job is finished: nothing needs to be kept."""
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
                f"{entry['what']!r} where {what!r} "
                "is asked for.",
                "Start afresh without --resume (`resume`).",
            )
        return entry["value"]

    def _write(self) -> None:
        if self._folder is not None:
            write_whole(self._folder / "journal.json", json.dumps(self._entries).encode())
