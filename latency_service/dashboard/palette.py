"""The dashboard's colours: series of figures, and the two themes. The style sheet's variables are
made from here, so that a page and its figures never differ.

Series are those of Okabe and Ito, which suit all kinds of colour vision. A series differs in marker
and dash as well, never in colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
ORANGE = "#E69F00"
SKY = "#56B4E9"


@dataclass(frozen=True, kw_only=True)
class Series:
    """How one series of a figure looks."""

    color: str
    #: Marker of plotly; predicted values take its ``-open`` form.
    symbol: str
    #: Dash of plotly's lines.
    dash: str


#: In the order in which series are given out; more than six belong into small multiples.
SERIES = (
    Series(color=BLUE, symbol="circle", dash="solid"),
    Series(color=VERMILLION, symbol="square", dash="dash"),
    Series(color=GREEN, symbol="diamond", dash="dot"),
    Series(color=PURPLE, symbol="triangle-up", dash="dashdot"),
    Series(color=ORANGE, symbol="x", dash="longdash"),
    Series(color=SKY, symbol="star", dash="longdashdot"),
)

#: Colours in figures that follow the theme: the page's script replaces them when it draws.
INK = "var(--ink)"
SOFT = "var(--soft)"
LINE = "var(--line)"

LIGHT: Mapping[str, str] = {
    "paper": "#fcfcfa",
    "raised": "#f3f3ef",
    "ink": "#1b2126",
    "soft": "#565f68",
    "line": "#dcdfe0",
    "link": "#005a94",
    "good": "#00634a",
    "bad": "#a83a00",
    "warn": "#7a4f00",
    "run": "#005a94",
    "idle": "#565f68",
}
DARK: Mapping[str, str] = {
    "paper": "#161616",
    "raised": "#202122",
    "ink": "#e9e7e2",
    "soft": "#a9b0b6",
    "line": "#3a3e42",
    "link": "#7cc4ef",
    "good": "#55c9a2",
    "bad": "#ff9260",
    "warn": "#e8b552",
    "run": "#7cc4ef",
    "idle": "#a9b0b6",
}


def style_sheet() -> str:
    """CSS variables of both themes; the system's choice applies unless the reader made one."""
    return (
        f":root{{color-scheme:light;{_variables(LIGHT)}}}\n"
        "@media (prefers-color-scheme:dark){:root:not([data-theme=light])"
        f"{{color-scheme:dark;{_variables(DARK)}}}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{_variables(DARK)}}}\n"
    )


def _variables(theme: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{color};" for name, color in theme.items())
