"""Answering predictions: loaded artifacts, kept by id, and one call into ONNX Runtime for each request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from latency_service.db.engine import Database
from latency_service.errors import BadRequest
from latency_service.predictors import repository, service
from latency_service.predictors.schemas import Sidecar

Floats = npt.NDArray[np.float32]

PLAIN = ["latency_ms", "lower_ms", "upper_ms"]
WITH_GRADIENT = [*PLAIN, "gradient"]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A predictor ready to answer. Thread-safe."""

    id: str
    groups: list[str]
    #: allowed range of each group's width [G]
    minimum: Floats
    full: Floats
    #: value and interval only: the gradient's part of the graph is left out
    plain: onnxruntime.InferenceSession
    whole: onnxruntime.InferenceSession

    def predict(self, widths: Floats, *, gradient: bool) -> dict[str, Any]:
        """Latencies in ms for `widths` [B, G]: latency_ms [B], lower_ms [B], upper_ms [B] and gradient [B, G]."""
        session, names = (self.whole, WITH_GRADIENT) if gradient else (self.plain, PLAIN)
        values = session.run(names, {"widths": widths})
        return {name: value.tolist() for name, value in zip(names, values, strict=True)}

    def check(self, widths: Sequence[Sequence[float]]) -> Floats:
        """The widths as an array [B, G].

        Raises:
            BadRequest: a vector is of the wrong length or a width out of range; the message names the group.
        """
        for row in widths:
            if len(row) != len(self.groups):
                raise BadRequest(
                    f"{len(row)} widths given for {len(self.groups)} width groups.",
                    f"Give one for each of: {', '.join(self.groups)}.",
                )
        array = np.asarray(widths, dtype=np.float32)
        inside = (array >= self.minimum) & (array <= self.full)
        if not inside.all():
            self._explain(array, inside)
        return array

    def _explain(self, array: Floats, inside: npt.NDArray[np.bool_]) -> None:
        row, group = (int(place[0]) for place in np.nonzero(~inside))
        raise BadRequest(
            f"Width {array[row, group]:g} of group {self.groups[group]!r} (vector {row}) is out of range.",
            f"Give {self.minimum[group]:g} to {self.full[group]:g}.",
        )


class Predictors:
    """The predictors used last, loaded. Thread-safe."""

    def __init__(self, database: Database, capacity: int) -> None:
        self._database, self._capacity = database, capacity
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = Lock()

    def known(self, predictor_id: str) -> Loaded | None:
        """The predictor if it is loaded; never touches the database."""
        with self._lock:
            found = self._loaded.get(predictor_id)
            if found is not None:
                self._loaded.move_to_end(predictor_id)
            return found

    def load(self, predictor_id: str) -> Loaded:
        """The predictor, read from the database unless it is loaded.

        Raises:
            NotFound: there is none of that id.
        """
        found = self.known(predictor_id)
        if found is not None:
            return found
        with self._database.read() as session:
            sidecar = Sidecar.model_validate(service.get(session, predictor_id).sidecar)
            artifact = repository.artifact(session, predictor_id)
        assert artifact is not None
        loaded = load(predictor_id, sidecar, artifact)
        with self._lock:
            self._loaded[predictor_id] = loaded
            while len(self._loaded) > self._capacity:
                self._loaded.popitem(last=False)
        return loaded


def load(predictor_id: str, sidecar: Sidecar, artifact: bytes) -> Loaded:
    """Make a predictor ready to answer."""
    model = onnx.load_model_from_string(artifact)
    for output in [entry for entry in model.graph.output if entry.name not in PLAIN]:
        model.graph.output.remove(output)
    return Loaded(
        id=predictor_id,
        groups=sidecar.groups,
        minimum=np.asarray(sidecar.minimum_widths, np.float32),
        full=np.asarray(sidecar.full_widths, np.float32),
        plain=_session(model.SerializeToString()),
        whole=_session(artifact),
    )


def _session(artifact: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
