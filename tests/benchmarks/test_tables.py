"""The page of benchmarks and the README's numbers: written from the committed results."""

from __future__ import annotations

import pytest

from benchmarks.support.tables import (
    BEGIN,
    END,
    MAX_BARS,
    PAGE,
    README,
    bars,
    number,
    page,
    readme,
    results,
)

REFRESH = "write it again: python -m benchmarks.support.tables"


def bar(name: str, *, holds: bool) -> dict[str, object]:
    return {"bar": name, "value": 1.0, "limit": 2.0, "unit": "%", "holds": holds}


def test_the_page_is_that_of_the_committed_results() -> None:
    assert PAGE.read_text() == page(results()), REFRESH


def test_the_readmes_numbers_are_those_of_the_committed_results() -> None:
    assert README.read_text() == readme(README.read_text(), results()), REFRESH


def test_every_section_names_its_machine_versions_and_date() -> None:
    text = page(results())
    for document in results():
        section = text.split(f"\n## {document['name']}\n")[1].split("\n## ")[0]
        assert document["date"][:10] in section
        assert document["machine"]["processor"] in section
        assert f"onnxruntime {document['versions']['onnxruntime']}" in section


def test_of_many_bars_the_missed_ones_are_listed() -> None:
    found = [bar("kept", holds=True)] * MAX_BARS + [bar("missed", holds=False)]
    lines = "\n".join(bars(found))
    assert f"{MAX_BARS} of {MAX_BARS + 1} bars hold" in lines
    assert "| missed | 1 % | 2 | **no** |" in lines
    assert "| kept |" not in lines


def test_of_few_bars_all_are_listed() -> None:
    assert "| kept | 1 % | 2 | yes |" in list(bars([bar("kept", holds=True)]))


@pytest.mark.parametrize(
    ("value", "text"), [(169057.06, "169,057"), (0.38412, "0.3841"), (3, "3"), (-0.155, "-0.155")]
)
def test_numbers_are_written_without_powers_of_ten(value: float, text: str) -> None:
    assert number(value) == text


def test_a_readme_without_a_place_for_its_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="around its numbers"):
        readme(f"{BEGIN} but no end", results())
    assert readme(f"{BEGIN}{END}tail", results()).endswith(f"{END}tail")
