"""``python -m benchmarks`` lists the benchmarks, ``python -m benchmarks NAME`` runs one."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

from benchmarks import cases
from benchmarks.support.harness import Benchmark, execute


def names() -> list[str]:
    """Modules of ``benchmarks.cases``, each with a ``run(quick) -> Outcome``."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(cases.__path__))


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when every bar holds, 1 when one does not, 2 for a name that does not exist."""
    options = _parser().parse_args(arguments)
    if options.name is None:
        return _list()
    if options.name not in names():
        print(f"no benchmark {options.name!r}: there are {', '.join(names())}", file=sys.stderr)
        return 2
    outcome = execute(options.name, _runnable(options), quick=options.quick, out=options.out)
    return 0 if all(bar.holds for bar in outcome.bars) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, 2 minutes; never a committed result",
    )
    parser.add_argument("--out", type=Path, help="file for the JSON")
    parser.add_argument(
        "--data", type=Path, help="folder of third-party data, where a benchmark needs it"
    )
    parser.add_argument(
        "--parts", type=int, help="number of pieces to run now, where a benchmark has pieces"
    )
    return parser


def _list() -> int:
    for name in names():
        print(f"{name:20} {(_module(name).__doc__ or '').splitlines()[0]}")
    return 0


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.cases.{name.replace('-', '_')}")


def _runnable(options: argparse.Namespace) -> Benchmark:
    """The benchmark with those of its own options that the command line gives."""
    run = _module(options.name).run
    own = [name for name in ("data", "parts") if name in inspect.signature(run).parameters]
    return partial(run, **{name: getattr(options, name) for name in own})


if __name__ == "__main__":
    sys.exit(main())
