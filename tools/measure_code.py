"""Figures of the code's style beside those of codebases that we admire.

``python -m tools.measure_code [FOLDER ...]`` prints one row for each folder and one for each
anchor. Exit code 1 when a file is too long or switches the formatter off, 0 otherwise.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import statistics
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef

PACKAGES = (Path("latency_service"), Path("pruning_client"))
#: Maximum number of lines of a file: a longer one should become two.
MAX_FILE_LINES = 400
MAX_COLUMNS = 100
#: Column heads, in the order of the fields of `Figures`.
_HEADER = (
    "functions",
    "lines med",
    "p95",
    "max",
    "body med",
    "file med",
    "max",
    "annotated %",
    "comments %",
    "over 100 %",
)
_FORMATTER_SWITCH = re.compile(r"#\s*fmt:\s*(skip|off)")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One row of the table."""

    functions: int
    #: Number of lines of a function, signature and docstring included.
    function_median: float
    function_p95: int
    function_max: int
    #: Median number of non-blank characters of a function's body, docstring left out.
    body_median: float
    file_median: float
    file_max: int
    #: Per cent of the functions whose parameters and result are all annotated.
    annotated: float
    #: Per cent of the lines that hold a comment.
    comments: float
    #: Per cent of the lines that are longer than 100 columns.
    long_lines: float


#: Measured on 28 November 2026 with this tool on the wheels of these versions.
ANCHORS = {
    "starlette 1.10.0": Figures(
        functions=527,
        function_median=5,
        function_p95=40,
        function_max=204,
        body_median=95,
        file_median=147,
        file_max=772,
        annotated=97.7,
        comments=4.3,
        long_lines=1.7,
    ),
    "procrastinate 3.10.0": Figures(
        functions=476,
        function_median=8,
        function_p95=47,
        function_max=124,
        body_median=121,
        file_median=17,
        file_max=1042,
        annotated=72.5,
        comments=3.7,
        long_lines=0.3,
    ),
    "optuna 5.0.0": Figures(
        functions=1553,
        function_median=11,
        function_p95=61,
        function_max=236,
        body_median=196,
        file_median=114,
        file_max=1685,
        annotated=95.8,
        comments=3.7,
        long_lines=0.1,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One Python file."""

    path: Path
    text: str

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def functions(self) -> list[Function]:
        nodes = ast.walk(ast.parse(self.text))
        return [node for node in nodes if isinstance(node, Function)]

    @cached_property
    def comments(self) -> list[tokenize.TokenInfo]:
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return [token for token in tokens if token.type == tokenize.COMMENT]

    def body_characters(self, function: Function) -> int:
        """Number of non-blank characters of a function's body, docstring left out."""
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        if not body:
            return 0
        text = "".join(self.lines[body[0].lineno - 1 : body[-1].end_lineno])
        return len(re.sub(r"\s", "", text))

    def findings(self) -> Iterator[str]:
        """What makes the tool fail, each with its place."""
        if len(self.lines) > MAX_FILE_LINES:
            yield f"{self.path}: {len(self.lines)} lines, more than {MAX_FILE_LINES}: split it"
        for token in self.comments:
            if _FORMATTER_SWITCH.match(token.string):
                yield f"{self.path}:{token.start[0]}: {token.string}: let the formatter format"


def sources(folder: Path) -> list[Source]:
    """The Python files below a folder.

    Raises:
        FileNotFoundError: there are none.
    """
    paths = sorted(folder.rglob("*.py"))
    if not paths:
        raise FileNotFoundError(f"no Python files in {folder}: name a package's folder")
    return [Source(path=path, text=path.read_text()) for path in paths]


def measure(files: Sequence[Source]) -> Figures:
    """The figures of all files together."""
    functions = [function for file in files for function in file.functions]
    lengths = sorted(_length(function) for function in functions)
    bodies = [file.body_characters(function) for file in files for function in file.functions]
    file_lengths = [len(file.lines) for file in files]
    lines = [line for file in files for line in file.lines]
    commented = sum(len({token.start[0] for token in file.comments}) for file in files)
    return Figures(
        functions=len(functions),
        function_median=statistics.median(lengths),
        function_p95=lengths[int(0.95 * len(lengths))],
        function_max=lengths[-1],
        body_median=statistics.median(bodies),
        file_median=statistics.median(file_lengths),
        file_max=max(file_lengths),
        annotated=_percent(sum(map(is_annotated, functions)), len(functions)),
        comments=_percent(commented, len(lines)),
        long_lines=_percent(sum(len(line) > MAX_COLUMNS for line in lines), len(lines)),
    )


def is_annotated(function: Function) -> bool:
    """Whether the result and all parameters but ``self`` and ``cls`` are annotated."""
    given = function.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    parameters += [one for one in (given.vararg, given.kwarg) if one is not None]
    named = [parameter for parameter in parameters if parameter.arg not in ("self", "cls")]
    return function.returns is not None and all(one.annotation is not None for one in named)


def table(rows: dict[str, Figures]) -> str:
    """The figures in columns, one line for each name."""
    header = ["", *_HEADER]
    lines = [header, *([name, *_cells(figures)] for name, figures in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.measure_code", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=PACKAGES, metavar="FOLDER")
    folders: Sequence[Path] = parser.parse_args(arguments).folders
    files = {folder: sources(folder) for folder in folders}
    print(table({str(folder): measure(found) for folder, found in files.items()} | ANCHORS))
    findings = [line for found in files.values() for file in found for line in file.findings()]
    for line in findings:
        print(line, file=sys.stderr)
    return 1 if findings else 0


def _length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1)


def _cells(figures: Figures) -> list[str]:
    return [f"{getattr(figures, field.name):,g}" for field in fields(figures)]


if __name__ == "__main__":
    sys.exit(main())
