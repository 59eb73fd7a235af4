"""Colours: text is readable in both themes, series differ by more than colour."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from latency_service.dashboard.palette import DARK, LIGHT, SERIES, style_sheet

TEXT = ("ink", "soft", "link", "good", "bad", "warn", "run", "idle")
#: Least contrast of text by WCAG 2.2, level AA.
AA = 4.5


def luminance(color: str) -> float:
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "raised"])
def test_text_is_readable(theme: Mapping[str, str], ground: str) -> None:
    poor = {name for name in TEXT if contrast(theme[name], theme[ground]) < AA}
    assert poor == set()


def test_series_differ_in_marker_and_dash_as_well() -> None:
    for attribute in ("color", "symbol", "dash"):
        assert len({getattr(series, attribute) for series in SERIES}) == len(SERIES)


def test_both_themes_define_the_same_variables() -> None:
    assert set(LIGHT) == set(DARK)
    assert style_sheet().count("--paper:") == 3
