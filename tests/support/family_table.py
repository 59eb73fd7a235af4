"""The table of docs/reference/families.md: ``python -m tests.support.family_table`` writes it.

One row for each family of the conformance test
(`tests/unit/pruning_client/graph/test_families.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pruning_client.graph.space import Traced
from pruning_client.methods.gates import filters_of
from tests.support.families import FAMILIES, traced_family

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "families.md"
#: Lines of the page between which the table is written.
BEGIN = "<!-- table: python -m tests.support.family_table -->"
END = "<!-- end of table -->"
_HEADER = (
    "| family | what characterises it | groups | channels | filters that may be removed "
    "| left at full width, and why |\n"
    "| --- | --- | --: | --: | --: | --- |\n"
)
_COUNTED = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)


@dataclass(frozen=True, kw_only=True)
class Share:
    """Filters of a network's convolutions and linear layers."""

    prunable: int
    total: int

    @property
    def percent(self) -> float:
        return 100 * self.prunable / self.total


def share_of(model: nn.Module, traced: Traced) -> Share:
    """Number of filters that belong to a width group, and of all filters."""
    named = [name for name, module in model.named_modules() if isinstance(module, _COUNTED)]
    grouped: dict[str, set[int]] = {}
    for producer in traced.producers:
        grouped.setdefault(producer.module, set()).update(producer.filters.tolist())
    return Share(
        prunable=sum(len(filters) for filters in grouped.values()),
        total=sum(len(filters_of(model, name)) for name in named),
    )


def table() -> str:
    """The table in Markdown, one line per family."""
    return _HEADER + "".join(f"{_row(name)}\n" for name in FAMILIES)


def page(text: str) -> str:
    """The page with the present table.

    Raises:
        ValueError: the page has no place for the table.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} needs the lines {BEGIN!r} and {END!r} around its table")
    return f"{head}{BEGIN}\n{table()}{END}{tail}"


def _row(name: str) -> str:
    model, traced = traced_family(name)
    groups = traced.space.groups
    share = share_of(model, traced)
    channels = sum(group.width for group in groups)
    summary = " ".join((type(model).__doc__ or "").split("\n\n")[0].split()).rstrip(".")
    filters = f"{share.prunable} of {share.total} ({share.percent:.0f} %)"
    return f"| {name} | {summary} | {len(groups)} | {channels} | {filters} | {_left(traced)} |"


def _left(traced: Traced) -> str:
    """Layers at full width, grouped by reason."""
    by_reason: dict[str, list[str]] = {}
    for layer, reason in traced.space.manifest.unprunable.items():
        by_reason.setdefault(reason.replace("|", "\\|"), []).append(f"`{layer}`")
    return "; ".join(f"{', '.join(layers)}: {reason}" for reason, layers in by_reason.items())


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
