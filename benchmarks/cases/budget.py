"""Whether budgets hold: what jobs state, and what a plain loop finds afterwards.

Four networks, five budgets, each on a quiet machine and beside busy processes. Each case is one
whole pruning job with untrained weights and uniform widths: how close a delivery gets depends on
the predictor, the lattice and the closed loop, not on what the network has learnt. Right after a
case, as hosts change within an hour, a plain loop alternates the delivered file with the dense one,
with no load of ours.

Each condition has a service of its own, so that its predictors are trained on what was measured
in it; at the end the two predictors of each network are compared. Every finished case is kept
with its two files under ``runs/benchmarks``, and taken from the committed result, so that a stopped
run resumes; ``--parts N`` ends after N cases. The JSON holds what is there.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.alternation import Pair, alternate
from benchmarks.support.harness import (
    Bar,
    Outcome,
    at_least,
    at_most,
    circumstances,
    committed,
    keep_committed,
)
from benchmarks.support.load import Load
from benchmarks.support.predictors import known_predictor, machine_folder
from benchmarks.support.untrained_jobs import NETWORKS, SHARES, prune_untrained, untrained
from latency_service.lattices.sampling import sample
from pruning_client import SearchSpace
from pruning_client.errors import PruningError
from pruning_client.graph.space import export_onnx
from pruning_client.latency.predictor import Predictor
from pruning_client.reports.schema import Report
from pruning_client.service.embedded import embedded_service

CONDITIONS = ("quiet", "loaded")
#: Duration of the plain loop for each pair of files, s.
_ALTERNATION_SECONDS = 32.0
#: Architectures on which two predictors are compared.
_COMPARED = 200


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One case."""

    condition: str
    network: str
    share: float

    @property
    def name(self) -> str:
        return f"{self.condition}-{self.network}-{self.share:g}"


def run(quick: bool, parts: int | None = None) -> Outcome:
    """Run the cases that are not there yet (one of them when quick).

    Args:
        parts: maximum number of cases to run now; all of them by default.
    """
    folder = machine_folder(quick) / "budget"
    wanted = _quick() if quick else _all()
    if not quick:
        keep_committed("budget", lambda case: _path(folder, _wanted(case)))
    left = [case for case in wanted if not _path(folder, case).exists()]
    for case in left[:parts]:
        print(_line(_case(folder, case, quick)), flush=True)
    done = [case for case in wanted if _path(folder, case).exists()]
    cases = [json.loads(_path(folder, case).read_text()) for case in done]
    levels = [] if quick else _levels(folder)
    return Outcome(bars=_bars(cases, levels), data={"cases": cases, "levels": levels})


def _quick() -> list[Wanted]:
    return [Wanted(condition="quiet", network="resnet20", share=0.6)]


def _all() -> list[Wanted]:
    """The first budget in both conditions, with the campaigns of both in the same hour; then the
    others, first all on a quiet machine.
    """
    first, *others = SHARES
    order = [(condition, first, name) for name in NETWORKS for condition in CONDITIONS]
    order += [(c, share, name) for c in CONDITIONS for share in others for name in NETWORKS]
    return [Wanted(condition=c, share=share, network=name) for c, share, name in order]


def _case(folder: Path, wanted: Wanted, quick: bool) -> dict[str, Any]:
    begun = time.monotonic()
    about = {
        "condition": wanted.condition,
        "network": wanted.network,
        "share": wanted.share,
        **circumstances(),
    }
    load = Load(seed=0) if wanted.condition == "loaded" else contextlib.nullcontext()
    try:
        with embedded_service(_service_folder(folder, wanted.condition)) as service, load:
            result = prune_untrained(service, wanted.network, wanted.share, quick)
    except PruningError as error:
        found = {**about, "refused": error.message}
    else:
        found = {**about, **_figures(result.report), "seconds": time.monotonic() - begun}
        pair = _files(folder, wanted)
        result.save(pair.file.parent)
        export_onnx(*untrained(wanted.network), pair.other)
        found |= _alternated(pair, 2 if quick else _ALTERNATION_SECONDS)
    folder.mkdir(parents=True, exist_ok=True)
    _path(folder, wanted).write_text(json.dumps(found))
    return found


def _path(folder: Path, case: Wanted) -> Path:
    return folder / f"{case.name}.json"


def _wanted(found: dict[str, Any]) -> Wanted:
    return Wanted(**{name: found[name] for name in ("condition", "network", "share")})


def _files(folder: Path, case: Wanted) -> Pair:
    """The delivered file of a case and the dense one."""
    own = folder / case.name
    return Pair(file=own / "pruned.onnx", other=own / "dense.onnx")


def _alternated(pair: Pair, seconds: float) -> dict[str, float]:
    """What the plain loop finds."""
    actual = alternate(pair, seconds)
    return {
        "alternated_share": actual.share,
        "alternated_lowest": actual.lowest,
        "alternated_highest": actual.highest,
    }


def _service_folder(folder: Path, condition: str) -> Path:
    return folder / f"service-{condition}"


def _levels(folder: Path) -> list[dict[str, Any]]:
    """For each network the predictions of the predictor trained beside the load, relative to those
    of the one trained in quiet; from the committed result where the two are not here.
    """
    found: dict[str, dict[str, Any]] = {}
    for condition in CONDITIONS:
        with embedded_service(_service_folder(folder, condition)) as service:
            for name in NETWORKS:
                space = SearchSpace.from_model(*untrained(name))
                predictor = known_predictor(service, space)
                if predictor is not None:
                    widths = sample(space, predictor.lattice, _COMPARED, seed=0)
                    found.setdefault(name, {})[condition] = (predictor, widths)
    known = {level["network"]: level for level in committed("budget").get("levels", [])}
    compared = {
        name: {"network": name, **_level(pair["quiet"], pair["loaded"])}
        for name, pair in found.items()
        if len(pair) == len(CONDITIONS)
    }
    return list({**known, **compared}.values())


def _level(quiet: tuple[Predictor, Any], loaded: tuple[Predictor, Any]) -> dict[str, Any]:
    """How the two predictors differ on the architectures of the quiet one's lattice: the median of
    the differences, and of the gaps between their intervals.
    """
    widths = quiet[1]
    one, other = (predictor.evaluate(widths) for predictor in (quiet[0], loaded[0]))
    apart = np.maximum(one.lower_ms / other.upper_ms, other.lower_ms / one.upper_ms) - 1
    return {
        "level_percent": float(100 * (np.median(other.latency_ms / one.latency_ms) - 1)),
        "gap_percent": float(100 * np.median(np.maximum(apart, 0.0))),
    }


def _figures(report: Report) -> dict[str, Any]:
    return {
        "refused": None,
        "outcome": report.outcome,
        "probability": report.probability,
        "budget_ms": report.budget_ms,
        "dense_ms": report.dense.latency_ms,
        "measured_ms": report.pruned.latency_ms,
        "lower_ms": report.pruned.lower_ms,
        "upper_ms": report.pruned.upper_ms,
        "over_percent": report.over_percent,
        "stated_share": report.pruned.latency_ms / report.dense.latency_ms,
        "verifications": report.verification.readings,
        "verification_seconds": report.verification.seconds,
        "predictor_mape": report.predictor.mape,
        "measurements": report.predictor.measurements,
    }


def _line(case: dict[str, Any]) -> str:
    named = f"{case['condition']}: {case['network']} at {case['share']:.1%}"
    if case["refused"]:
        return f"{named}: refused, {case['refused']}"
    return (
        f"{named}: {case['outcome']}, {case['over_percent']:+.2f} %, stated "
        f"{case['stated_share']:.4f}, alternated {case['alternated_share']:.4f} "
        f"({case['alternated_lowest']:.4f} to {case['alternated_highest']:.4f}), "
        f"{case['verifications']} verifications, {case['seconds']:.0f} s"
    )


def _bars(cases: list[dict[str, Any]], levels: list[dict[str, Any]]) -> list[Bar]:
    bars = []
    for condition, limit in (("quiet", 1.0), ("loaded", 1.5)):
        mine = [case for case in cases if case["condition"] == condition]
        if mine:
            bars += _bars_of(condition, mine, limit)
    done = [case for case in cases if not case["refused"]]
    if done:
        off = [100 * abs(c["stated_share"] / c["alternated_share"] - 1) for c in done]
        wrong = sum(c["outcome"] == "met" and c["alternated_lowest"] > c["share"] for c in done)
        bars += [
            at_most("stated share against alternation, median", statistics.median(off), 1, "%"),
            at_most("stated share against alternation, worst", max(off), 2, "%"),
            at_most("met, but over the budget in every process of the loop", wrong, 0, "cases"),
        ]
    if levels:
        apart = max(abs(level["level_percent"]) for level in levels)
        bars.append(at_most("level of predictors trained beside load, worst", apart, 1.5, "%"))
    return bars


def _bars_of(condition: str, cases: list[dict[str, Any]], limit: float) -> list[Bar]:
    done = [case for case in cases if not case["refused"]]
    met = [case for case in done if case["outcome"] == "met"]
    bars = [at_least(f"{condition}: cases met", len(met), len(cases), "cases")]
    if done:
        below = statistics.median(-case["over_percent"] for case in done)
        over = max(case["over_percent"] for case in done)
        slowest = max(case["seconds"] for case in done)
        bars += [
            at_most(f"{condition}: below the budget, median", below, limit, "%"),
            at_most(f"{condition}: over the budget, worst case", over, 0, "%"),
            at_most(f"{condition}: longest case", slowest, 720, "s"),
        ]
    return bars
