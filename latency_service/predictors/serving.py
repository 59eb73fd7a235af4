"""Predictions: loaded artifacts by id, and one call to ONNX Runtime for each small request."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import onnx
import onnxruntime
import structlog
from sqlalchemy.exc import SQLAlchemyError

from latency_service.core.arrays import Bools, Floats32
from latency_service.core.errors import BadRequest, NotFound
from latency_service.db.engine import Database
from latency_service.predictors import freshness, repository, service
from latency_service.predictors.freshness import Freshness
from latency_service.predictors.schemas import Sidecar

log = structlog.get_logger(__name__)


#: Number of architectures in one call to the runtime: their intermediate results fit the cache.
CHUNK = 256
PLAIN = ["latency_ms", "lower_ms", "upper_ms"]
WITH_GRADIENT = [*PLAIN, "gradient"]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A predictor ready to answer. Thread-safe."""

    id: str
    sidecar: Sidecar
    groups: list[str]
    #: Allowed range of each group's width [G].
    minimum: Floats32
    full: Floats32
    #: Session for value and interval only, without the gradient's part of the graph.
    plain: onnxruntime.InferenceSession
    whole: onnxruntime.InferenceSession

    def predict(self, widths: Floats32, *, gradient: bool) -> list[Floats32]:
        """Latency, lower and upper bound [B] in ms for `widths` [B, G], and with `gradient` the
        gradient [B, G] in ms per channel.

        The interpreter lock is released during the computation.
        """
        session, names = (self.whole, WITH_GRADIENT) if gradient else (self.plain, PLAIN)
        parts = [
            session.run(names, {"widths": widths[start : start + CHUNK]})
            for start in range(0, len(widths), CHUNK)
        ]
        return parts[0] if len(parts) == 1 else _concatenated(parts)

    def check(self, widths: Sequence[Sequence[float]]) -> Floats32:
        """The widths as an array [B, G].

        Raises:
            BadRequest: a vector is of the wrong length or a width out of range; the message names
                the group.
        """
        for row in widths:
            self._check_length(row)
        array = np.asarray(widths, dtype=np.float32)
        self.check_range(array)
        return array

    def check_range(self, array: Floats32) -> None:
        """Return when every width of `array` [B, G] is within its group's range.

        Raises:
            BadRequest: one is not; the message names the group.
        """
        inside = (array >= self.minimum) & (array <= self.full)
        if not inside.all():
            self._explain(array, inside)

    def _check_length(self, row: Sequence[float]) -> None:
        if len(row) != len(self.groups):
            raise BadRequest(
                f"{len(row)} widths given for {len(self.groups)} width groups.",
                f"Give one for each of: {', '.join(self.groups)}.",
            )

    def _explain(self, array: Floats32, inside: Bools) -> None:
        row, group = (int(place[0]) for place in np.nonzero(~inside))
        raise BadRequest(
            f"Width {array[row, group]:g} of group {self.groups[group]!r} (vector {row}) is "
            "out of range.",
            f"Give {self.minimum[group]:g} to {self.full[group]:g}.",
        )


@dataclass(frozen=True, kw_only=True)
class ServedPredictor:
    """A loaded predictor and its state at the last look."""

    loaded: Loaded
    freshness: Freshness
    #: Time of the last look, by `time.monotonic`.
    looked_at: float


class Predictors:
    """The most recently used predictors, loaded. Thread-safe.

    Args:
        capacity: maximum number of loaded predictors.
        refresh_seconds: age at which a predictor's state is read again.
    """

    def __init__(self, database: Database, capacity: int, refresh_seconds: float) -> None:
        self._database = database
        self._capacity = capacity
        self._refresh_seconds = refresh_seconds
        self._served: OrderedDict[str, ServedPredictor] = OrderedDict()
        self._lock = Lock()
        self._loading = Lock()

    def known(self, predictor_id: str) -> ServedPredictor | None:
        """The predictor if it is loaded and its state is recent; never reads the database."""
        with self._lock:
            found = self._served.get(predictor_id)
            if found is None or time.monotonic() - found.looked_at >= self._refresh_seconds:
                return None
            self._served.move_to_end(predictor_id)
            return found

    def load(self, predictor_id: str) -> ServedPredictor:
        """The predictor and its state, read from the database unless it is recent.

        While the database does not answer, a loaded predictor keeps its last state.

        Raises:
            NotFound: there is none of that id.
        """
        with self._loading:
            found = self.known(predictor_id)
            if found is None:
                found = self._look(predictor_id)
                self._keep(found)
            return found

    def _look(self, predictor_id: str) -> ServedPredictor:
        before = self._served.get(predictor_id)
        looked_at = time.monotonic()
        try:
            return self._read(predictor_id, before, looked_at)
        except NotFound:
            self._drop(predictor_id)
            raise
        except SQLAlchemyError as error:
            if before is None:
                raise
            log.warning("freshness_not_read", predictor=predictor_id, cause=str(error))
            return replace(before, looked_at=looked_at)

    def _read(
        self, predictor_id: str, before: ServedPredictor | None, looked_at: float
    ) -> ServedPredictor:
        with self._database.read() as session:
            row = service.get(session, predictor_id)
            if before is not None:
                seen = freshness.look(session, row, before.freshness)
                return replace(before, freshness=seen, looked_at=looked_at)
            seen = freshness.look(session, row, None)
            artifact = repository.artifact(session, predictor_id)
        assert artifact is not None
        loaded = load(predictor_id, Sidecar.model_validate(row.sidecar), artifact)
        return ServedPredictor(loaded=loaded, freshness=seen, looked_at=looked_at)

    def _drop(self, predictor_id: str) -> None:
        with self._lock:
            self._served.pop(predictor_id, None)

    def _keep(self, served: ServedPredictor) -> None:
        with self._lock:
            self._served[served.loaded.id] = served
            self._served.move_to_end(served.loaded.id)
            while len(self._served) > self._capacity:
                self._served.popitem(last=False)


def load(predictor_id: str, sidecar: Sidecar, artifact: bytes) -> Loaded:
    """Make a predictor ready to answer."""
    return Loaded(
        id=predictor_id,
        sidecar=sidecar,
        groups=sidecar.groups,
        minimum=np.asarray(sidecar.minimum_widths, np.float32),
        full=np.asarray(sidecar.full_widths, np.float32),
        plain=_session(_without_gradient(artifact)),
        whole=_session(artifact),
    )


def _without_gradient(artifact: bytes) -> bytes:
    model = onnx.load_model_from_string(artifact)
    for output in [entry for entry in model.graph.output if entry.name not in PLAIN]:
        model.graph.output.remove(output)
    return bytes(model.SerializeToString())


def _concatenated(parts: Sequence[Sequence[Floats32]]) -> list[Floats32]:
    """Columns of several calls, joined."""
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _session(artifact: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
