"""The public door: its names are pinned, and examples and documents come through it only."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pruning_client

ROOT = Path(__file__).parents[3]
PUBLIC = [
    "PFP",
    "BudgetError",
    "Campaign",
    "Client",
    "DataError",
    "FreeGates",
    "Front",
    "Functionality",
    "GateTraining",
    "ImageFiles",
    "InvalidInput",
    "Magnitude",
    "MeasurementFailed",
    "Method",
    "Metric",
    "Missing",
    "ModelError",
    "MostMacs",
    "Predictor",
    "PredictorRefused",
    "ProgressBars",
    "ProgressEvent",
    "PruneResult",
    "PruningError",
    "PruningWarning",
    "Quantisation",
    "RayCluster",
    "Recipe",
    "Refused",
    "Report",
    "Samples",
    "SearchSpace",
    "SlowerThanDense",
    "Target",
    "Training",
    "TrainingFailed",
    "Uniform",
    "UsageError",
    "Verify",
    "WGates",
    "accuracy",
    "as_batches",
    "compare",
    "embedded_service",
    "fastest",
    "finetune",
    "load",
    "print_report",
    "prune",
    "recipes",
    "sweep",
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


#: Runs each script with --help, as `python SCRIPT` does, and prints how each has ended.
START = """
import contextlib, io, json, pathlib, runpy, sys, traceback
ends = {}
for script in sys.argv[1:]:
    sys.argv, sys.path[0] = [script, "--help"], str(pathlib.Path(script).parent)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        ends[script] = end.code or 0
    except BaseException:
        ends[script] = traceback.format_exc()
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def help_ends() -> dict[str, object]:
    """Exit code of each example's help, or its error; in one process, which imports torch once."""
    command = [sys.executable, "-c", START, *map(str, EXAMPLES)]
    ended = subprocess.run(command, check=True, capture_output=True, timeout=120)
    ends: dict[str, object] = json.loads(ended.stdout)
    return ends


def back_doors(source: str) -> list[str]:
    """Imports of the two packages that do not come from their public names."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            root = module.split(".")[0]
            is_public = module == "pruning_client" and all(
                entry.name in pruning_client.__all__ for entry in node.names
            )
            if root in ("pruning_client", "latency_service") and not is_public:
                found.append(module)
        elif isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("pruning_client.")]
    return found


def test_public_surface() -> None:
    assert pruning_client.__all__ == PUBLIC
    # as ruff sorts them: names in capitals first
    assert sorted(PUBLIC, key=lambda name: (not name.isupper(), name)) == PUBLIC
    assert all(hasattr(pruning_client, name) for name in PUBLIC)


def test_both_packages_are_typed() -> None:
    assert (ROOT / "pruning_client" / "py.typed").exists()
    assert (ROOT / "latency_service" / "py.typed").exists()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_import_public_names_only(path: Path) -> None:
    assert back_doors(path.read_text()) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_can_be_started(path: Path, help_ends: dict[str, object]) -> None:
    assert help_ends[str(path)] == 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_import_public_names_only(path: Path) -> None:
    blocks = _PYTHON.findall(path.read_text())
    assert [door for block in blocks for door in back_doors(block)] == []


def test_a_back_door_is_seen() -> None:
    assert back_doors("from pruning_client.pipeline.prune import prune") == [
        "pruning_client.pipeline.prune"
    ]
    assert back_doors("from pruning_client import Nothing") == ["pruning_client"]
    assert back_doors("from pruning_client import prune") == []
