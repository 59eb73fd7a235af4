"""Cost of serving: CPU per prediction, binary batches, latency beside them, start-up.

A real service process on a real socket, with a predictor of ResNet-20's search space trained by the
project itself (on latencies computed from MACs: the serving of its graph is measured here, not its
accuracy). Requests of each kind come in alternating blocks from one keep-alive connection; the
server's processor time is read from the operating system. Batches of 1,024 use the binary form; for
the 99th percentile another process streams them without a pause while this one requests single
predictions. A predictor that learned from other targets is a mixture of several models; it is
evaluated in this process only, and the result contains their number.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from multiprocessing import Process
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.predictors import made_up_transfer
from benchmarks.support.served import TOKEN, Server, served
from benchmarks.support.served_database import published_predictor, served_space
from latency_service.core.transport import Transport
from latency_service.db.engine import Database
from latency_service.predictors.binary import MEDIA_TYPE, encode
from latency_service.predictors.serving import Loaded, Predictors, load
from latency_service.settings import Settings
from latency_service.training.artifact.lookup_tables import STENCIL
from latency_service.training.pipeline import train

BATCH = 1024
OCTETS = {"content-type": MEDIA_TYPE}


class Load(NamedTuple):
    """Number of blocks, requests per block, batches, single predictions and calls in process."""

    blocks: int
    requests: int
    batches: int
    singles: int
    calls: int


FULL = Load(blocks=30, requests=400, batches=600, singles=4000, calls=200)
QUICK = Load(blocks=6, requests=100, batches=50, singles=500, calls=20)


class Served(NamedTuple):
    """Figures of one running service; times in seconds per block and kind of request."""

    groups: int
    ready_seconds: float
    spent: dict[str, list[float]]
    wall: dict[str, list[float]]
    binary: dict[str, float]
    waits: dict[str, float]
    torch_loaded: int
    in_process: dict[str, float]

    @property
    def ratios(self) -> dict[str, float]:
        """Server CPU of each kind of request relative to ``/healthz``, median over the blocks."""
        healthz = self.spent["healthz"]
        return {kind: statistics.median(np.divide(s, healthz)) for kind, s in self.spent.items()}


def run(quick: bool) -> Outcome:
    """Serve a predictor and load it; then a mixture in this process."""
    load_ = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        found = _served(Settings(data_dir=Path(folder)), load_)
    mixture = _mixture(load_.calls)
    return Outcome(bars=_bars(found, mixture["median_ms"]), data=_data(found, load_, mixture))


def _served(settings: Settings, load_: Load) -> Served:
    predictor_id, widths, measured = published_predictor(settings)
    with served(settings.url) as server:
        spent, wall = _measure(server, predictor_id, widths, measured, load_.blocks, load_.requests)
        return Served(
            groups=len(widths),
            ready_seconds=server.ready_seconds,
            spent=spent,
            wall=wall,
            binary=_stream(server, predictor_id, widths, load_.batches),
            waits=_beside_stream(server, predictor_id, widths, load_.singles),
            torch_loaded=_maps_torch(server.pid),
            in_process=_in_process(_loaded(settings, predictor_id), load_.calls),
        )


def _mixture(calls: int) -> dict[str, Any]:
    """A predictor that learned from three other targets, in this process."""
    learned = train(made_up_transfer(served_space()))
    loaded = load(learned.sidecar.model, learned.sidecar, learned.artifact)
    return {
        "model": learned.sidecar.model,
        "tables": _tables_in(learned.artifact),
        **_in_process(loaded, calls),
    }


def _bars(found: Served, mixture_ms: float) -> list[Bar]:
    ratios = found.ratios
    rate = found.binary["per_cpu_second"]
    p99_ms = found.waits["p99_ms"]
    alone_ms = found.in_process["median_ms"]
    return [
        at_most("server CPU of a prediction / of healthz", ratios["predict"], 2.0, "ratio"),
        at_most(
            "server CPU of a measured architecture / of healthz", ratios["measured"], 2.0, "ratio"
        ),
        at_least("binary predictions / s of server CPU", rate, 100_000, "1/s"),
        at_most("p99 of single predictions beside batches of 1,024", p99_ms, 15, "ms"),
        at_most("batch of 1,024 with gradient, in process", alone_ms, 10, "ms"),
        at_most("the same with what three other targets teach", mixture_ms, 10, "ms"),
        at_most("ready after start", found.ready_seconds, 3.0, "s"),
        at_most("torch loaded by the service", found.torch_loaded, 0, "libraries"),
    ]


def _data(found: Served, load_: Load, mixture: dict[str, Any]) -> dict[str, Any]:
    def microseconds(times: dict[str, list[float]]) -> dict[str, float]:
        return {k: statistics.median(v) / load_.requests * 1e6 for k, v in times.items()}

    return {
        "groups": found.groups,
        "blocks": load_.blocks,
        "requests_per_block": load_.requests,
        "ratio_with_gradient": found.ratios["gradient"],
        "cpu_us_per_request": microseconds(found.spent),
        "binary": found.binary,
        "single_beside_batches": found.waits,
        "in_process": found.in_process,
        "in_process_transferred": mixture,
        "wall_us_per_request": microseconds(found.wall),
    }


def _measure(
    server: Server,
    predictor_id: str,
    widths: list[int],
    measured: list[int],
    blocks: int,
    requests: int,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Processor and wall seconds of each block, by kind of request."""
    path = f"/v1/predictors/{predictor_id}/predict"
    kinds: dict[str, tuple[str, str, Any]] = {
        "healthz": ("GET", "/healthz", None),
        "predict": ("POST", path, {"widths": widths}),
        "gradient": ("POST", path, {"widths": widths, "gradient": True}),
        "measured": ("POST", path, {"widths": measured}),
    }
    spent: dict[str, list[float]] = {kind: [] for kind in kinds}
    wall: dict[str, list[float]] = {kind: [] for kind in kinds}
    with Transport(server.url, TOKEN) as http:
        for kind, source in (("predict", "predicted"), ("measured", "measured")):
            _, _, asked = kinds[kind]
            if http.request("POST", path, json=asked).json()["source"] != [source]:
                raise RuntimeError(
                    f"{asked} is not answered as {source}: the two would not be told apart"
                )
        for block in range(blocks + 1):
            for kind, (method, where, body) in kinds.items():
                before = _cpu_seconds(server.pid)
                begun = time.perf_counter()
                for _ in range(requests):
                    http.request(method, where, json=body)
                if block:  # the first block of each kind is warm-up
                    spent[kind].append(_cpu_seconds(server.pid) - before)
                    wall[kind].append(time.perf_counter() - begun)
    return spent, wall


def _batch(widths: list[int]) -> bytes:
    """1,024 width vectors in the binary form."""
    drawn = np.random.default_rng(0).uniform(0.5, 1.0, (BATCH, len(widths))) * np.asarray(widths)
    return encode([drawn])


def _stream(
    server: Server,
    predictor_id: str,
    widths: list[int],
    batches: int,
) -> dict[str, float]:
    """Predictions per second of the server's processor time, and per second, in batches."""
    print(f"streaming {batches} batches of {BATCH}", flush=True)
    body = _batch(widths)
    path = f"/v1/predictors/{predictor_id}/predict?gradient=true"
    with Transport(server.url, TOKEN) as http:
        for warm in (True, False):
            before = _cpu_seconds(server.pid)
            begun = time.perf_counter()
            for _ in range(5 if warm else batches):
                http.request("POST", path, content=body, headers=OCTETS)
        spent = _cpu_seconds(server.pid) - before
        wall = time.perf_counter() - begun
    count = batches * BATCH
    return {
        "batches": batches,
        "per_cpu_second": count / spent,
        "per_second_one_client": count / wall,
    }


def _beside_stream(
    server: Server, predictor_id: str, widths: list[int], singles: int
) -> dict[str, float]:
    """Waits for single predictions while another process streams batches."""
    print(f"{singles} single predictions beside a stream of batches", flush=True)
    path = f"/v1/predictors/{predictor_id}/predict"
    streamer = Process(
        target=_stream_for_ever,
        args=(server.url, path, _batch(widths)),
        daemon=True,
    )
    streamer.start()
    waits = []
    try:
        with Transport(server.url, TOKEN) as http:
            time.sleep(2.0)  # the other process imports and connects
            for _ in range(singles):
                begun = time.perf_counter()
                http.request("POST", path, json={"widths": widths})
                waits.append(1e3 * (time.perf_counter() - begun))
        alive = streamer.is_alive()
    finally:
        streamer.kill()
        streamer.join()
    if not alive:
        raise RuntimeError("the stream of batches broke off: the waits beside it mean nothing")
    p50, p99, most = np.percentile(waits, [50, 99, 100])
    return {
        "singles": singles,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "longest_ms": float(most),
    }


def _stream_for_ever(url: str, path: str, body: bytes) -> None:
    with Transport(url, TOKEN) as http:
        while True:
            http.request("POST", f"{path}?gradient=true", content=body, headers=OCTETS)


def _loaded(settings: Settings, predictor_id: str) -> Loaded:
    """The very object that the service answers with."""
    database = Database(settings.url)
    try:
        return Predictors(database, 1, 60.0).load(predictor_id).loaded
    finally:
        database.dispose()


def _tables_in(artifact: bytes) -> int:
    """How many models' tables a predictor reads: each cuts windows out of its own."""
    kinds = [node.op_type for node in onnx.load_model_from_string(artifact).graph.node]
    return kinds.count("Slice") // STENCIL


def _in_process(loaded: Loaded, calls: int) -> dict[str, float]:
    """One batch with gradient at a time."""
    rng = np.random.default_rng(0)
    widths = rng.uniform(loaded.minimum, loaded.full, (BATCH, len(loaded.groups))).astype(
        np.float32
    )
    waits = []
    for _ in range(calls + 3):
        begun = time.perf_counter()
        loaded.predict(widths, gradient=True)
        waits.append(1e3 * (time.perf_counter() - begun))
    return {"calls": calls, "median_ms": statistics.median(waits[3:]), "fastest_ms": min(waits[3:])}


def _cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process; the scheduler's, as clock ticks are coarse."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _maps_torch(pid: int) -> int:
    """Shared libraries of torch in the memory of a process."""
    mapped = Path(f"/proc/{pid}/maps").read_text()
    return len({line.split()[-1] for line in mapped.splitlines() if "libtorch" in line})
