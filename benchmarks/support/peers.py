"""The usual ways of timing networks: one process, no canary, no rounds, no priority."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import onnx
import onnxruntime as ort

from latency_service.agent.measuring.sessions import random_feeds
from latency_service.spaces.slicing import SearchSpace, materialise
from latency_service.spaces.weightless import draw_weights

#: Number of untimed runs, of timed runs for the median, and of timed runs for the mean.
WARM_UP_RUNS = 10
MEDIAN_RUNS = 50
MEAN_RUNS = 200


def naive(space: SearchSpace, widths: Sequence[Sequence[int]]) -> dict[str, list[float]]:
    """Latency in ms of each architecture in the two usual ways, in one fresh process.

    ``median``: of 50 runs. ``mean``: of 200 runs after a fixed warm-up, which is what ONNX
    Runtime's own `onnxruntime_perf_test` does (its default is 1,000; the wheel does not ship it).
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, space.data, [list(map(int, row)) for row in widths]).result()


def time_runs(session: ort.InferenceSession, feeds: dict[str, Any], runs: int) -> list[float]:
    """Wall time of each of `runs` runs after the warm-up, ms."""
    for _ in range(WARM_UP_RUNS):
        session.run(None, feeds)
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        session.run(None, feeds)
        times.append((time.perf_counter() - began) * 1e3)
    return times


def session_of(model: onnx.ModelProto) -> ort.InferenceSession:
    """A session with default options on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _measure(data: bytes, widths: Sequence[Sequence[int]]) -> dict[str, list[float]]:
    space = SearchSpace.from_bytes(data)
    found = {"median": list[float](), "mean": list[float]()}
    for row in widths:
        model = draw_weights(materialise(space, row), 0)
        for entry in model.graph.input:
            if entry.type.tensor_type.shape.dim[0].dim_param:
                entry.type.tensor_type.shape.dim[0].dim_value = 1
        session = session_of(model)
        feeds = random_feeds(model, 0)
        found["median"].append(statistics.median(time_runs(session, feeds, MEDIAN_RUNS)))
        found["mean"].append(statistics.fmean(time_runs(session, feeds, MEAN_RUNS)))
    return found
