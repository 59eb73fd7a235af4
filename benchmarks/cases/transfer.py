"""Predictors of a new target from other targets' measurements and 10 or 50 of its own.

A small real network on this machine with one and two threads, batches of 1 and 8, fp32 and int8,
each target in turn the new one; with ``--data FOLDER`` the columns of the third-party tables too.

Each other target is known with as many measurements as training from scratch has. Beside each error
and rank correlation stands that of an oracle, which knows the true latency of every network on the
other targets. It is the best, in hindsight, of a line in log latency from each other target, a
kernel ridge and a Gaussian process over all of them, fitted to the same few measurements. Where the
oracle misses a limit, the targets have too little in common. Where no networks were measured on
both targets, the oracle only knows the predictions of the other targets' LPNets.

Finished targets are kept under ``runs/benchmarks``, so that a stopped run resumes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.measured import (
    Floats,
    Measurements,
    Store,
    architectures,
    predict,
    space_of,
)
from benchmarks.support.networks import resnet8
from benchmarks.support.predictors import RUNS
from benchmarks.support.third_party import Table, accel, hat, needed, ofa
from latency_service import training
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.ranks import spearman
from latency_service.measurements.schemas import Protocol
from latency_service.spaces.layers import Layer, layers
from latency_service.training.models.block_features import BlockLayout, build_block_features, whole
from latency_service.training.models.kernels import fit_kernel_line
from latency_service.training.models.lpnet import LPNet
from latency_service.training.models.transfer import fit_sources
from latency_service.training.pipeline import KnownTarget, TrainingSet, VectorSet, train

TARGETS = (
    RuntimeConfig(),
    RuntimeConfig(precision="int8"),
    RuntimeConfig(batch=8),
    RuntimeConfig(intra_threads=2),
)
#: Measurements of the new target (`FEW`, `SOME`), of each other target and of the new one for
#: training from scratch (`MANY`), and held-out ones.
FEW = 10
SOME = 50
MANY = 400
HELD_OUT = 100
#: Number of draws whose errors are averaged, by number of measurements: few scatter by chance.
DRAWS = {FEW: 4, SOME: 2, MANY: 1}
QUICK_OLD = 40
QUICK_HELD_OUT = 20
#: Protocols for two thousand latencies in a fraction of the usual time. Two threads wait for each
#: other and scatter by 10 % from round to round: many rounds each, whatever the interval.
PROTOCOL = Protocol(half_width=0.05, min_rounds=30, max_rounds=60, round_ms=3.0)
PROTOCOL_THREADS = Protocol(half_width=0.15, min_rounds=60, max_rounds=60)


class Column(NamedTuple):
    """Networks [N, G] and what they take on one target, ms [N]."""

    widths: npt.NDArray[np.number]
    latency_ms: Floats

    def at(self, rows: npt.NDArray[np.integer]) -> Column:
        return Column(self.widths[rows], self.latency_ms[rows])


def run(quick: bool, data: Path | None = None) -> Outcome:
    """Leave one target out; quick: two targets and no comparison with training from scratch."""
    here = _here(quick)
    work = [partial(_left_out, here, number, quick) for number in range(len(here))]
    if data is not None:
        work += [partial(_column, str(data), name) for name in _columns(needed(data), quick)]
    kept = None if quick else RUNS / "transfer" / _code()
    found: list[dict[str, Any]] = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(_compared, part, quick, kept) for part in work]:
            found.append(future.result())
            print(f"  {len(found)}/{len(work)} {_row(found[-1])}", flush=True)
    bars = [bar for entry in found for bar in _bars(entry)]
    return Outcome(bars=bars, rows=[_row(entry) for entry in found], data={"targets": found})


def _code() -> str:
    """Hash of the code that trains and compares: results of other code are not reused."""
    files = [*sorted(Path(training.__file__).parent.rglob("*.py")), Path(__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _resumed(kept: Path | None, name: str, part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The kept result of an earlier run, or a new one."""
    path = kept and kept / f"{re.sub(r'[^a-z0-9_]+', '-', name.lower())}.json"
    if path is not None and path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    found = part()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".part").write_text(json.dumps(found))
        path.with_suffix(".part").replace(path)
    return found


def _bars(found: dict[str, Any]) -> list[Bar]:
    few = found["trained"][str(FEW)]
    some = found["trained"][str(SOME if str(SOME) in found["trained"] else FEW)]
    bars = [
        at_least(f"{found['target']}: rank correlation with {FEW}", few["spearman"], 0.95, ""),
        at_most(f"{found['target']}: error with {FEW}", few["mape"], 8, "%"),
    ]
    scratch = found["trained"].get(str(MANY))
    if scratch is not None:
        ratio = some["mape"] / scratch["mape"]
        bars.append(
            at_most(
                f"{found['target']}: error with {SOME} to that of {MANY} from scratch",
                ratio,
                1.3,
                "x",
            )
        )
    return bars


def _row(found: dict[str, Any]) -> dict[str, str]:
    row = {"target": found["target"]}
    for count, entry in found["trained"].items():
        row[f"{count}: error (oracle's), %"] = (
            f"{entry['mape']:.2f} ({entry['oracle']['mape']:.2f})"
        )
    return row


def _here(quick: bool) -> list[Measurements]:
    """The small network on every target of this machine: the last HELD_OUT are never trained on."""
    space = space_of("resnet8", resnet8)
    count = QUICK_OLD + QUICK_HELD_OUT if quick else MANY + HELD_OUT
    widths = architectures(space, MANY + HELD_OUT)[:count]
    return [
        Store(space, runtime, PROTOCOL if runtime.intra_threads == 1 else PROTOCOL_THREADS).measure(
            widths
        )
        for runtime in (TARGETS[:2] if quick else TARGETS)
    ]


class Judged(NamedTuple):
    """Mean absolute percentage error, and rank correlation."""

    mape: float
    spearman: float


def _judge(latency_ms: Floats, truth: Floats) -> Judged:
    return Judged(100 * float(np.abs(latency_ms / truth - 1).mean()), spearman(latency_ms, truth))


@dataclass(frozen=True, kw_only=True)
class _Target:
    """A target that is left out."""

    name: str
    structure: Sequence[Layer] | BlockLayout
    #: Training set of the measurements at given positions.
    draw: Callable[[slice], TrainingSet | VectorSet]
    held: Column
    #: Measurements of other targets: the known ones, and all of them (for the oracle).
    known: Sequence[KnownTarget]
    others: Sequence[Column]

    @cached_property
    def sources(self) -> Sequence[LPNet]:
        return fit_sources(self.structure, self.known, 0, lambda share: None)

    def compare(self, count: int, draws: int) -> dict[str, Any]:
        """Errors on `held` after training with `count` measurements, and the oracle's."""
        sets = [self.draw(slice(number * count, (number + 1) * count)) for number in range(draws)]
        return _mean([self._judged(data, [] if count == MANY else self.sources) for data in sets])

    def _judged(self, data: TrainingSet | VectorSet, using: Sequence[LPNet]) -> dict[str, Any]:
        trained = train(data, sources=using)
        held = self.held
        latency = predict(trained.artifact, held.widths).latency_ms
        seen = Column(data.widths, data.latency_ms)
        told = oracle(_elsewhere(seen, self.others), _elsewhere(held, self.others), seen, held)
        by = "measured"
        if told is None:
            told = oracle(
                _predicted(seen, self.sources), _predicted(held, self.sources), seen, held
            )
            by = "predicted"
        return {
            **_judge(latency, held.latency_ms)._asdict(),
            "model": trained.sidecar.model,
            "oracle": told and told._asdict(),
            "oracle_knows": by,
        }


def _compared(find: Callable[[], _Target], quick: bool, kept: Path | None) -> dict[str, Any]:
    """Transfer to one target with few and with some measurements, and training from scratch."""
    target = find()
    trained = {
        str(count): _resumed(
            kept,
            f"{target.name} {count}",
            partial(target.compare, count, 1 if quick else DRAWS[count]),
        )
        for count in ((FEW,) if quick else (FEW, SOME, MANY))
    }
    return {"target": target.name, "trained": trained}


def _left_out(sets: Sequence[Measurements], number: int, quick: bool) -> _Target:
    """Target `number` of this machine; the others are all the others."""
    mine = sets[number]
    rest = [entry for place, entry in enumerate(sets) if place != number]
    cut = len(mine.widths) - (QUICK_HELD_OUT if quick else HELD_OUT)
    return _Target(
        name=f"here {TARGETS[number].key}",
        structure=layers(mine.space),
        draw=lambda rows: mine.at(np.arange(cut)[rows]).training_set(),
        held=Column(mine.widths[cut:], mine.latency_ms[cut:]),
        known=[entry.first(MANY).known() for entry in rest],
        others=[Column(entry.widths, entry.latency_ms) for entry in rest],
    )


def _mean(drawn: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of numbers, and what the draws had."""

    def mean(entries: Sequence[dict[str, Any]]) -> dict[str, float]:
        return {name: float(np.mean([entry[name] for entry in entries])) for name in Judged._fields}

    told = mean([entry["oracle"] for entry in drawn])
    return {
        **mean(drawn),
        "oracle": told,
        "oracle_knows": drawn[0]["oracle_knows"],
        "drawn": list(drawn),
    }


def oracle(known: Floats, asked: Floats, seen: Column, held: Column) -> Judged | None:
    """Lowest error and best rank correlation on `held` of models from other targets' latencies.

    Of the networks that all targets share; nothing where those are less than half.

    Args:
        known: log latency of the networks of `seen` on the other targets [N, S], NaN where it is
            not known.
        asked: of those of `held`.
    """
    usable = np.isfinite(asked).mean(0) >= 0.5
    rows = np.isfinite(known[:, usable]).all(1)
    judged = np.isfinite(asked[:, usable]).all(1)
    if not usable.any() or min(rows.mean(), judged.mean()) < 0.5:
        return None
    known = known[rows][:, usable]
    asked = asked[judged][:, usable]
    truth = held.latency_ms[judged]
    latency = seen.latency_ms[rows]
    ones = np.ones(int(rows.sum()))
    told = [
        np.polyval(np.polyfit(here, np.log(latency), 1), there)
        for here, there in zip(known.T, asked.T, strict=True)
    ]
    features = build_block_features(whole(known.shape[1]), known)
    for evidence in (False, True):
        fitted = fit_kernel_line(features, known, latency, ones, evidence=evidence, seed=0)
        told.append(fitted.log_latency(asked))
    each = [_judge(np.exp(one), truth) for one in told]
    return Judged(min(one.mape for one in each), max(one.spearman for one in each))


def _elsewhere(column: Column, others: Sequence[Column]) -> Floats:
    """Log latency [N, S] of a column's networks on other targets, NaN where it is not known."""
    tables = [
        {row.tobytes(): at for row, at in zip(other.widths, other.latency_ms, strict=True)}
        for other in others
    ]
    return np.log([[table.get(row.tobytes(), np.nan) for table in tables] for row in column.widths])


def _predicted(column: Column, sources: Sequence[LPNet]) -> Floats:
    """Log latency [N, S] of a column's networks on other targets, by their LPNets."""
    return np.stack([source.log_latency(column.widths) for source in sources], axis=1)


def _tables(data: Path) -> list[Table]:
    return [*ofa(data), *accel(data), *hat(data)]


def _columns(data: Path, quick: bool) -> list[str]:
    names = [table.name for table in _tables(data)]
    return names[2:3] if quick else names


def _column(folder: str, name: str) -> _Target:
    """One column; the others are the other columns of its table."""
    tables = _tables(Path(folder))
    mine = next(table for table in tables if table.name == name)
    others = [table for table in tables if table.family == mine.family and table.name != name]
    seen, held = mine.split(MANY, seed=0)
    known = [
        (table.name, Column(table.widths, table.latency_ms).at(table.split(MANY, seed=1)[0]))
        for table in others
    ]
    return _Target(
        name=f"{mine.family} {name}",
        structure=mine.layout,
        draw=lambda rows: mine.training_set(seen[rows], 0),
        held=Column(mine.widths, mine.latency_ms).at(held),
        known=[
            KnownTarget(widths=part.widths, latency_ms=part.latency_ms) for other, part in known
        ],
        others=[Column(table.widths, table.latency_ms) for table in others],
    )
