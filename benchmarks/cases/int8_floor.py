"""What keeps the error of an int8 predictor above the bar of ``int8``.

Two networks whose int8 files have missed 1.5 times the repeat difference there: a MobileNetV2 and
one with squeeze-excite branches. Their weights are random, which their latency does not depend on.
(1) A campaign with twice the measurements of ``int8`` and four times the repeats: the held-out
errors with each number of measurements, of LPNet and of the best rival. (2) The same int8 files in
sessions that differ in the memory layout alone (see ``layouts``): what changes from file to file,
and lasts from process to process, is nothing that a predictor can tell from widths. Measurements
are kept under ``runs/benchmarks``, so that a stopped run resumes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.layouts import scatters
from benchmarks.support.measured import Built, space_of
from benchmarks.support.networks import mobilenet_v2, squeeze_excite
from benchmarks.support.predictors import machine_folder, machine_predictor
from latency_service.core.quantisation import Quantiser
from latency_service.devices.schemas import RuntimeConfig
from latency_service.lattices.sampling import sample
from latency_service.spaces.slicing import SearchSpace, materialise
from latency_service.spaces.weightless import draw_weights
from pruning_client.service.embedded import Embedded, embedded_service

_NETWORKS: dict[str, Built] = {"mobilenet_v2": mobilenet_v2, "squeeze_excite": squeeze_excite}
#: Architectures of a campaign, and how many of them are measured twice.
_CAMPAIGN = (200, 40)
_QUICK = (24, 4)
#: Of each network, for the memory layouts; and seconds for each in each process.
_FILES = 16
_SECONDS = 4.0
#: Error of the predictor, as a multiple of the repeat difference, and the session that shows what
#: is left where nothing differs.
_ERRORS = 1.5
_EQUAL = "default again"


def run(quick: bool, parts: int | None = None) -> Outcome:
    """Both networks; quick: the first with a few measurements.

    Args:
        parts: maximum number of networks to run now; all of them by default.
    """
    names = list(_NETWORKS)[:1] if quick else list(_NETWORKS)
    folder = machine_folder(quick)
    own = folder / "int8-floor"
    own.mkdir(parents=True, exist_ok=True)
    with embedded_service(folder / "service") as service:
        for name in [name for name in names if not _path(own, name).exists()][:parts]:
            _path(own, name).write_text(json.dumps(_network(service, name, quick)))
    data = {n: json.loads(_path(own, n).read_text()) for n in names if _path(own, n).exists()}
    return Outcome(
        bars=[bar for name, found in data.items() for bar in _bars(name, found)],
        data=data,
        rows=[row for name, found in data.items() for row in _rows(name, found)],
    )


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _network(service: Embedded, name: str, quick: bool) -> dict[str, Any]:
    space = space_of(name, _NETWORKS[name])
    count, repeats = _QUICK if quick else _CAMPAIGN
    runtime = RuntimeConfig(precision="int8")
    predictor = machine_predictor(service, space, count=count, repeats=repeats, runtime=runtime)
    sidecar = predictor.sidecar
    rivals = {rival.name: rival.mape for rival in sidecar.rivals if rival.name != sidecar.model}
    return {
        "repeat_difference": sidecar.repeat_difference,
        "model": sidecar.model,
        "errors": {point.measurements: point.mape for point in sidecar.learning_curve},
        "rivals": rivals,
        "layouts": _layouts(space, predictor.lattice, quick),
    }


def _layouts(space: SearchSpace, lattice: list[list[int]], quick: bool) -> dict[str, Any]:
    count, seconds = (2, 1.0) if quick else (_FILES, _SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        files = [
            _int8_file(space, list(row), Path(folder) / f"{index}.onnx")
            for index, row in enumerate(sample(space, lattice, count, seed=2))
        ]
        found = scatters(files, seconds)
    return {
        name: scatter._asdict() | {"lasting": scatter.lasting} for name, scatter in found.items()
    }


def _int8_file(space: SearchSpace, widths: list[int], path: Path) -> Path:
    model = draw_weights(materialise(space, widths))
    entry = model.graph.input[0]
    sizes = [dim.dim_value or 1 for dim in entry.type.tensor_type.shape.dim]
    image = np.random.default_rng(0).standard_normal(sizes).astype(np.float32)
    quantiser = Quantiser(model, [{entry.name: image}])
    onnx.save_model(quantiser.quantised(), path)
    return path


def _bars(name: str, found: dict[str, Any]) -> Iterator[Bar]:
    floor = found["repeat_difference"]
    for count, error in found["errors"].items():
        title = f"{name}, {count} measurements: error by the repeat difference"
        yield at_most(title, error / floor, _ERRORS, "x")
    best = min(found["rivals"].values())
    yield at_most(f"{name}, best rival: error by the repeat difference", best / floor, _ERRORS, "x")
    equal = found["layouts"][_EQUAL]["lasting"]
    for session, scatter in found["layouts"].items():
        if session != _EQUAL:
            title = f"{name}, {session}: lasting change above that of equal sessions"
            yield at_least(title, scatter["lasting"] - equal, 0.2, "%")


def _rows(name: str, found: dict[str, Any]) -> Iterator[dict[str, str]]:
    for session, scatter in found["layouts"].items():
        yield {
            "network": name,
            "session": session,
            "change, median %": f"{scatter['level']:+.2f}",
            "over files, sd %": f"{scatter['files']:.2f}",
            "over processes, sd %": f"{scatter['processes']:.2f}",
            "lasting, sd %": f"{scatter['lasting']:.2f}",
        }
