"""What a user waits for, beside the state of commit 28d15fc.

Both trees do the same in turn, each piece in a process of its own: the demo with three seeds, a
cold start, the search spaces of ten networks of torchvision, a whole job of EfficientNet-Lite0 at
224x224 with 700 images, and the training of predictors. The earlier tree is a git worktree under
``runs``, with the packages of this environment. torchvision and timm are optional: see
``benchmarks/support/zoo.py``.

Every finished piece is kept under ``runs/benchmarks``, and taken from the committed result, so that
a stopped run resumes; ``--parts N`` ends after N pieces. The JSON holds what is there.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.support.harness import Bar, Outcome, at_most, circumstances, keep_committed
from benchmarks.support.predictors import machine_folder

#: Commit that the present state is compared with.
EARLIER = "28d15fc"
_ROOT = Path(__file__).parents[2]
_SCRIPT = _ROOT / "benchmarks" / "support" / "waits.py"
_SEEDS = ("0", "1", "2")
_NETWORKS = (
    *("resnet50", "mobilenet_v3_large", "vgg16_bn", "densenet121", "googlenet"),
    *("efficientnet_b0", "shufflenet_v2_x1_0", "regnet_y_400mf", "mnasnet1_0", "squeezenet1_1"),
)
_GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One thing to wait for."""

    kind: str
    argument: str
    #: Whether the earlier tree does it too.
    both: bool = True

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.argument}"


def run(quick: bool, parts: int | None = None) -> Outcome:
    """Run the pieces that are not there yet (one space when quick).

    Args:
        parts: maximum number of pieces to run now; all of them by default.
    """
    folder = machine_folder(quick) / "wait"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [Piece(kind="make-space", argument="squeezenet1_1")] if quick else _all()
    if not quick:
        keep_committed("wait", lambda case: folder / f"{case['piece']}.json")
    left = [piece for piece in wanted if not _path(folder, piece).exists()]
    earlier = _earlier_tree()
    for piece in left[:parts]:
        case = _case(piece, earlier)
        _path(folder, piece).write_text(json.dumps(case))
        print(_line(case), flush=True)
    paths = [_path(folder, piece) for piece in wanted]
    cases = [json.loads(path.read_text()) for path in paths if path.exists()]
    return Outcome(bars=_bars(cases), data={"earlier": EARLIER, "cases": cases})


def _all() -> list[Piece]:
    return [
        *(Piece(kind="make-space", argument=name) for name in _NETWORKS),
        Piece(kind="train", argument="6", both=False),
        Piece(kind="train", argument="0", both=False),
        *(Piece(kind="demo", argument=seed) for seed in _SEEDS),
        Piece(kind="cold-start", argument="resnet44"),
        Piece(kind="job", argument="80%"),
    ]


def _path(folder: Path, piece: Piece) -> Path:
    return folder / f"{piece.name}.json"


def _earlier_tree() -> Path:
    """The worktree of the earlier commit."""
    tree = _ROOT / "runs" / "benchmarks" / f"tree-{EARLIER}"
    if not tree.exists():
        command = ["git", "worktree", "add", "--force", "--detach", str(tree), EARLIER]
        subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)
    return tree


def _case(piece: Piece, earlier: Path) -> dict[str, Any]:
    about = {
        "piece": piece.name,
        "kind": piece.kind,
        **circumstances(),
    }
    before = _done(piece, earlier) if piece.both else None
    return {**about, "before": before, "now": _done(piece, _ROOT)}


def _done(piece: Piece, tree: Path) -> dict[str, Any]:
    """What the script prints for a piece in a tree."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others = [place for place in given if place and Path(place).resolve() != _ROOT]
    finished = subprocess.run(
        [sys.executable, str(_SCRIPT), piece.kind, piece.argument],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), *others])},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise RuntimeError(f"{piece.name} in {tree} failed: {finished.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def _line(case: dict[str, Any]) -> str:
    now = case["now"]["seconds"]
    if case["before"] is None:
        return f"{case['piece']}: {now:.1f} s"
    before = case["before"]["seconds"]
    return f"{case['piece']}: {before:.1f} s before, {now:.1f} s now, {now / before:.2f} times"


def _bars(cases: list[dict[str, Any]]) -> list[Bar]:
    every: list[tuple[str, Callable[[list[dict[str, Any]]], list[Bar]]]] = [
        ("demo", _bars_of_demo),
        ("cold-start", lambda mine: [_ratio("cold start", mine, 0.5)]),
        ("make-space", _bars_of_spaces),
        ("job", _bars_of_job),
        ("train", _bars_of_training),
    ]
    grouped = [(bars, [case for case in cases if case["kind"] == kind]) for kind, bars in every]
    return [bar for bars, mine in grouped if mine for bar in bars(mine)]


def _ratio(name: str, cases: list[dict[str, Any]], limit: float) -> Bar:
    """Time of all pieces together, relative to the earlier one."""
    now = sum(case["now"]["seconds"] for case in cases)
    before = sum(case["before"]["seconds"] for case in cases)
    return at_most(f"{name}: wall time now / before", now / before, limit, "times")


def _bars_of_demo(cases: list[dict[str, Any]]) -> list[Bar]:
    def median(tree: str, figure: str) -> float:
        return float(statistics.median(case[tree][figure] for case in cases))

    lost = median("before", "accuracy") - median("now", "accuracy")
    error = median("now", "mape") - median("before", "mape")
    over = max(case["now"]["over_percent"] for case in cases)
    return [
        _ratio("demo", cases, 0.5),
        at_most("demo: over the budget, worst run", over, 0, "%"),
        at_most("demo: accuracy lost against before, median", lost, 1, "points"),
        at_most("demo: predictor's error above that of before, median", error, 1, "% MAPE"),
    ]


def _bars_of_spaces(cases: list[dict[str, Any]]) -> list[Bar]:
    ratios = {case["piece"]: case["now"]["seconds"] / case["before"]["seconds"] for case in cases}
    worst = max(ratios, key=lambda name: ratios[name])
    return [
        _ratio(f"make-space of {len(cases)} networks", cases, 0.4),
        at_most(f"make-space, worst ({worst})", ratios[worst], 0.6, "times"),
    ]


def _bars_of_job(cases: list[dict[str, Any]]) -> list[Bar]:
    peak = max(case["now"]["peak_bytes"] for case in cases) / _GB
    return [
        _ratio("EfficientNet-Lite0 at 224x224", cases, 0.4),
        at_most("EfficientNet-Lite0 at 224x224: largest process", peak, 3, "GB"),
    ]


def _bars_of_training(cases: list[dict[str, Any]]) -> list[Bar]:
    limits = {"train-6": ("from six targets", 8), "train-0": ("from nothing with 100", 3)}
    named = [(*limits[case["piece"]], case["now"]["seconds"]) for case in cases]
    return [at_most(f"training {name}", seconds, limit, "s") for name, limit, seconds in named]
