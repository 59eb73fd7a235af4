"""Whether an int8 predictor can keep the bar of ``int8`` for its error, and what raises the error.

Two networks whose int8 files miss 1.5 times the repeat difference: a MobileNetV2 and one with
squeeze-excite branches. Their weights are random, which their latency does not depend on. (1) The
held-out error of LPNet with 100 measurements and with more: what is left then is not for want of
measurements. (2) The same int8 files with other memory layouts (see ``layouts``): a change that
lasts from process to process, differs from file to file and is nothing that widths tell. The bound
is the error, as a multiple of the repeat difference, of a predictor that knows everything else.
Measurements are kept (see ``measured``), so that a stopped run resumes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.layouts import Scatter, scatters
from benchmarks.support.measured import (
    Built,
    Measurements,
    Store,
    architectures,
    predict,
    repeat_difference,
    space_of,
)
from benchmarks.support.networks import mobilenet_v2, squeeze_excite
from benchmarks.support.predictors import PROTOCOL
from latency_service.core.quantisation import Quantiser
from latency_service.devices.schemas import RuntimeConfig
from latency_service.spaces.slicing import SearchSpace, materialise
from latency_service.spaces.weightless import draw_weights
from latency_service.training.evaluation import errors
from latency_service.training.pipeline import train

_NETWORKS: dict[str, Built] = {"mobilenet_v2": mobilenet_v2, "squeeze_excite": squeeze_excite}
#: Architectures to train on, held out, and of the latter measured twice.
_TRAINED = (100, 300)
_HELD_OUT = 80
_REPEATED = 40
_QUICK = ((24,), 8, 4)
#: Of each network, for the memory layouts; and seconds for each in each process.
_FILES = 16
_SECONDS = 4.0
_ASKED = 1.5
#: Mean and median of the absolute value of a normal variable, by its standard deviation.
_MEAN = float(np.sqrt(2 / np.pi))
_MEDIAN = 0.6745


def run(quick: bool) -> Outcome:
    """Both networks; quick: the first with a few measurements."""
    names = list(_NETWORKS)[:1] if quick else list(_NETWORKS)
    data = {name: _network(name, quick) for name in names}
    return Outcome(
        bars=[bar for name, found in data.items() for bar in _bars(name, found)],
        data=data,
        rows=[row for name, found in data.items() for row in _rows(name, found)],
    )


def _network(name: str, quick: bool) -> dict[str, Any]:
    trained, held_out, repeated = _QUICK if quick else (_TRAINED, _HELD_OUT, _REPEATED)
    space = space_of(name, _NETWORKS[name])
    store = Store(space, RuntimeConfig(precision="int8"), PROTOCOL)
    widths = architectures(space, _HELD_OUT + max(_TRAINED))
    held = store.measure(widths[:held_out])
    floor = repeat_difference(store, held.widths[:repeated])
    seen = store.measure(widths[_HELD_OUT : _HELD_OUT + max(trained)])
    return {
        "repeat_difference": floor,
        "errors": {str(count): _error(seen.first(count), held) for count in trained},
        "layouts": {
            session: scatter._asdict() | {"lasting": scatter.lasting}
            for session, scatter in _layouts(space, held, quick).items()
        },
    }


def _error(seen: Measurements, held: Measurements) -> float:
    """Mean absolute error of the predictor trained on `seen`, per cent."""
    trained = train(seen.training_set())
    found = predict(trained.artifact, held.widths)
    logs = np.log(found.latency_ms)
    return errors(trained.sidecar.model, logs, held.latency_ms, differentiable=True).mape


def _layouts(space: SearchSpace, held: Measurements, quick: bool) -> dict[str, Scatter]:
    count, seconds = (2, 1.0) if quick else (_FILES, _SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        files = [
            _int8_file(space, row, Path(folder) / f"{index}.onnx")
            for index, row in enumerate(held.widths[:count].tolist())
        ]
        return scatters(files, seconds)


def _int8_file(space: SearchSpace, widths: list[int], path: Path) -> Path:
    model = draw_weights(materialise(space, widths))
    entry = model.graph.input[0]
    sizes = [dim.dim_value or 1 for dim in entry.type.tensor_type.shape.dim]
    image = np.random.default_rng(0).standard_normal(sizes).astype(np.float32)
    quantiser = Quantiser(model, [{entry.name: image}])
    onnx.save_model(quantiser.quantised(), path)
    return path


def bound(floor: float, scatter: float) -> float:
    """The error of a predictor that knows all but the memory layout, by the repeat difference.

    Args:
        floor: repeat difference, per cent.
        scatter: standard deviation, over files, of the lasting change from one memory layout to
            another, per cent. Each of the two has half of its variance.
    """
    noise = floor / (_MEDIAN * np.sqrt(2))
    return float(_MEAN * np.sqrt(noise**2 + scatter**2 / 2) / floor)


def _bars(name: str, found: dict[str, Any]) -> Iterator[Bar]:
    floor = found["repeat_difference"]
    for count, error in found["errors"].items():
        yield at_most(
            f"{name}, {count} measurements: error by the repeat difference",
            error / floor,
            _ASKED,
            "x",
        )
    for session, scatter in found["layouts"].items():
        if session != "default again":
            yield at_least(
                f"{name}, {session}: lasting change over that of equal sessions",
                scatter["lasting"] / max(found["layouts"]["default again"]["lasting"], 1e-2),
                2.0,
                "x",
            )


def _rows(name: str, found: dict[str, Any]) -> Iterator[dict[str, str]]:
    floor = found["repeat_difference"]
    for session, scatter in found["layouts"].items():
        yield {
            "network": name,
            "session": session,
            "change, %": f"{scatter['level']:+.2f}",
            "over files, sd %": f"{scatter['files']:.2f}",
            "over processes, sd %": f"{scatter['processes']:.2f}",
            "lasting, sd %": f"{scatter['lasting']:.2f}",
            "bound": f"{bound(floor, scatter['lasting']):.2f}",
        }
