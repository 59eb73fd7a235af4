"""Devices whose true latency is known, and a trainer that publishes it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx2
import onnx

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.pipeline import Trained, TrainingSet
from pruning_client import Client
from pruning_client.testing.latency import MS_PER_LAYER, MS_PER_MAC
from tests.support import analytic, fake_predictor
from tests.support.queues import jobs_written
from tests.support.settings import API_TOKEN

#: 8x8 images, and no layer that strides.
PIXELS = 64
#: Longest time without a look at the queue.
POLL_SECONDS = 0.5


@dataclass
class Board(FakeAgent):
    """Measures what `analytic` says; whole files take `factor` times as long as the predictor will
    say.
    """

    http: httpx2.Client
    enrolment: str
    device: str = "board"
    factor: float = 1.05
    #: what a whole file takes, ms
    truth: Callable[[bytes], float] = field(default_factory=lambda: file_ms)
    #: stages of the jobs done, in order
    jobs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.http, self.enrolment, self.device)
        self._space = cache(self._fetch)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Do every job as soon as it is queued, while the context is open."""
        stop = threading.Event()
        with jobs_written() as written:

            def work() -> None:
                while not stop.is_set():
                    written.wait(POLL_SECONDS)
                    written.clear()
                    self.work()

            thread = threading.Thread(target=work)
            thread.start()
            try:
                yield
            finally:
                stop.set()
                written.set()
                thread.join()

    def result(self, lease: dict[str, Any], *, scale: float = 1.0) -> dict[str, Any]:
        self.jobs.append(lease["kind"])
        self.cost = self._cost(lease)
        body = super().result(lease, scale=scale)
        for result in body["results"]:
            while len(result["rounds"]) < lease["protocol"]["min_rounds"]:
                result["rounds"] += result["rounds"]
        return body

    def _cost(self, lease: dict[str, Any]) -> Callable[[Sequence[int]], float]:
        if lease["kind"] == "measure":
            space = self._space(lease["space_id"])
            return lambda widths: analytic.latency_ms(space, widths)
        ms = self.factor * self.truth(
            self.request("GET", f"/v1/models/{lease['model_sha256']}").content
        )
        return lambda _widths: ms

    def _fetch(self, space_id: str) -> Any:
        return SearchSpace.from_bytes(
            self.request("GET", f"/v1/spaces/{space_id}/graph.onnx").content
        )


def file_ms(data: bytes) -> float:
    """The truth for a whole file: every weight of a convolution is used once for each pixel."""
    total = 0.0
    for tensor in onnx.load_model_from_string(data).graph.initializer:
        if len(tensor.dims) in (2, 4):
            weights = 1
            for size in tensor.dims:
                weights *= size
            total += MS_PER_LAYER + MS_PER_MAC * weights * (PIXELS if len(tensor.dims) == 4 else 1)
    return total


def publish_the_truth(data: TrainingSet, *, progress: Any = None) -> Trained:
    made = analytic.sidecar(data.space, data.fingerprint).model_copy(
        update={"lattice": data.lattice}
    )
    return Trained(
        artifact=analytic.artifact(data.space), sidecar=made, held_out=fake_predictor.held_out()
    )


@dataclass
class ServedBoard:
    """The service, its device and a client of it."""

    url: str
    client: Client
    board: Board


@contextlib.contextmanager
def second_board(served: ServedBoard, *, factor: float) -> Iterator[Board]:
    """Another device of the same service, at work while the context is open."""
    with httpx2.Client(base_url=served.url, headers=bearer(API_TOKEN), timeout=60) as http:
        board = Board(
            http, str(http.post("/v1/enrolments").json()["token"]), device="phone", factor=factor
        )
        with board.at_work():
            yield board
