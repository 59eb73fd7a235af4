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
from latency_service.predictors.freshness import Facts
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
    groups: list[str]
    #: Allowed range of each group's width [G].
    minimum: Floats32
    full: Floats32
    #: Session for value and interval only, without the gradient's part of the graph.
    plain: onnxruntime.InferenceSession
    whole: onnxruntime.InferenceSession

    def predict(self, widths: Floats32, *, gradient: bool) -> list[Floats32]:
        """Latencies in ms for `widths` [B, G]: latency, lower and upper [B], and with `gradient`
        its [B, G].

        Other threads of Python run meanwhile.
        """
        session, names = (self.whole, WITH_GRADIENT) if gradient else (self.plain, PLAIN)
        parts = [
            session.run(names, {"widths": widths[start : start + CHUNK]})
            for start in range(0, len(widths), CHUNK)
        ]
        return (
            parts[0]
            if len(parts) == 1
            else [np.concatenate(column) for column in zip(*parts, strict=True)]
        )

    def check(self, widths: Sequence[Sequence[float]]) -> Floats32:
        """The widths as an array [B, G].

        Raises:
            BadRequest: a vector is of the wrong length or a width out of range; the message names
                the group.
        """
        for row in widths:
            if len(row) != len(self.groups):
                raise BadRequest(
                    f"{len(row)} widths given for {len(self.groups)} width groups.",
                    f"Give one for each of: {', '.join(self.groups)}.",
                )
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

    def _explain(self, array: Floats32, inside: Bools) -> None:
        row, group = (int(place[0]) for place in np.nonzero(~inside))
        raise BadRequest(
            f"Width {array[row, group]:g} of group {self.groups[group]!r} (vector {row}) is "
            "out of range.",
            f"Give {self.minimum[group]:g} to {self.full[group]:g}.",
        )


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A loaded predictor, and what is known about it now."""

    loaded: Loaded
    facts: Facts
    #: Time of the last look at the facts, by `time.monotonic`.
    looked_at: float


class Predictors:
    """The predictors used last, loaded. Thread-safe.

    Args:
        capacity: how many are kept.
        refresh_seconds: after how long their facts are looked up again.
    """

    def __init__(self, database: Database, capacity: int, refresh_seconds: float) -> None:
        self._database = database
        self._capacity = capacity
        self._refresh_seconds = refresh_seconds
        self._ready: OrderedDict[str, Ready] = OrderedDict()
        self._lock = Lock()
        self._loading = Lock()

    def known(self, predictor_id: str) -> Ready | None:
        """The predictor if it is loaded and its facts are fresh; never touches the database."""
        with self._lock:
            found = self._ready.get(predictor_id)
            if found is None or time.monotonic() - found.looked_at >= self._refresh_seconds:
                return None
            self._ready.move_to_end(predictor_id)
            return found

    def load(self, predictor_id: str) -> Ready:
        """The predictor and its facts, read from the database unless they are fresh.

        While the database does not answer, a loaded predictor goes on with the facts it has.

        Raises:
            NotFound: there is none of that id.
        """
        with self._loading:
            found = self.known(predictor_id)
            if found is None:
                found = self._look(predictor_id)
                self._keep(found)
            return found

    def _look(self, predictor_id: str) -> Ready:
        before = self._ready.get(predictor_id)
        looked_at = time.monotonic()
        try:
            with self._database.read() as session:
                row = service.get(session, predictor_id)
                seen = freshness.look(session, row, before.facts if before else None)
                artifact = None if before else repository.artifact(session, predictor_id)
        except NotFound:
            with self._lock:
                self._ready.pop(predictor_id, None)
            raise
        except SQLAlchemyError as error:
            if before is None:
                raise
            log.warning("facts_not_read", predictor=predictor_id, cause=str(error))
            return replace(before, looked_at=looked_at)
        if before is not None:
            return replace(before, facts=seen, looked_at=looked_at)
        assert artifact is not None
        loaded = load(predictor_id, Sidecar.model_validate(row.sidecar), artifact)
        return Ready(loaded=loaded, facts=seen, looked_at=looked_at)

    def _keep(self, ready: Ready) -> None:
        with self._lock:
            self._ready[ready.loaded.id] = ready
            self._ready.move_to_end(ready.loaded.id)
            while len(self._ready) > self._capacity:
                self._ready.popitem(last=False)


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
