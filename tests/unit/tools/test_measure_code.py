"""The style figures on files whose figures are known."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools.measure_code import ANCHORS, Figures, Source, is_annotated, main, measure, sources

SMALL = '''"""A module."""


def add(a: int, b: int) -> int:
    """The sum."""
    return a + b  # why


def untyped(a):
    total = a
    return total


class Thing:
    def method(self) -> None: ...
'''


def source(text: str) -> Source:
    return Source(path=Path("a.py"), text=text)


def test_figures_of_a_small_file() -> None:
    assert measure([source(SMALL)]) == Figures(
        functions=3,
        function_median=3,
        function_p95=3,
        function_max=3,
        # `returna+b#why` 13, `total=areturntotal` 18, the line of `...` itself
        body_median=18,
        file_median=15,
        file_max=15,
        annotated=66.7,
        comments=6.7,
        long_lines=0.0,
    )


@pytest.mark.parametrize(
    ("text", "annotated"),
    [
        ("def f(a: int) -> int: ...", True),
        ("def f(self, *a: int, **k: int) -> int: ...", True),
        ("def f(a: int): ...", False),
        ("def f(a) -> int: ...", False),
        ("def f(*, a) -> int: ...", False),
        ("async def f(**k) -> int: ...", False),
    ],
)
def test_a_function_is_annotated_when_everything_of_it_is(text: str, annotated: bool) -> None:
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    assert is_annotated(function) is annotated


def test_a_body_of_a_docstring_only_is_empty() -> None:
    file = source('def f() -> None:\n    """Nothing."""\n')
    assert file.body_characters(file.functions[0]) == 0


def test_a_long_file_and_a_formatter_switch_are_found_with_their_place() -> None:
    text = "a = 1  # fmt: skip\n" + "b = '# fmt: skip'\n" * 400
    assert list(source(text).findings()) == [
        "a.py: 401 lines, more than 400: split it",
        "a.py:1: # fmt: skip: let the formatter format",
    ]


def test_the_anchors_stand_beside_the_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text(SMALL)
    assert main([str(tmp_path)]) == 0
    names = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert names == [str(tmp_path), *ANCHORS]


def test_exit_code_1_when_something_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text(SMALL + "x = 1  # fmt: skip\n")
    assert main([str(tmp_path)]) == 1
    assert "a.py:16" in capsys.readouterr().err


def test_a_folder_without_python_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        sources(tmp_path)
