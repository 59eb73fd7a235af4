"""A run's report as far as the service understands it.

A client of any version writes it, so nothing about its form is certain once its summary is
accepted. It is read here and nowhere else: a part that is missing or of another form is None or
left out, and never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from latency_service.core.wire import WireModel
from latency_service.devices.schemas import RuntimeConfig
from latency_service.runs.schemas import HistoryEntry, RunVerification

Value = TypeVar("Value")
_Milliseconds = Annotated[float, Field(ge=0)]


class GroupWidths(WireModel):
    """Channels of a width group before and after."""

    name: str
    before: int = Field(gt=0)
    after: int = Field(ge=0)


class LayerLatency(WireModel):
    """Latency of a layer before and after, ms."""

    name: str
    before_ms: _Milliseconds
    after_ms: _Milliseconds


@dataclass(frozen=True, kw_only=True)
class ReportParts:
    """What a report tells."""

    widths: list[GroupWidths]
    layers: list[LayerLatency]
    warnings: list[str]
    timings_seconds: dict[str, float]
    versions: dict[str, str]
    runtime: RuntimeConfig | None
    #: Number of measurements of whole files.
    readings: int | None
    #: Settings by name, flattened: ``method.epochs`` and the like.
    settings: dict[str, str]


def read(report: Any) -> ReportParts:
    """The parts of a report apart from its long lists; of one that is absent or no object, none."""
    plain: Mapping[str, Any] = report if isinstance(report, Mapping) else {}
    spent = plain.get("verification")
    return ReportParts(
        widths=_each(_WIDTHS, plain.get("widths")),
        layers=_each(_LAYER, plain.get("layers")),
        warnings=_each(_TEXT, plain.get("warnings")),
        timings_seconds=_values(_SECONDS, plain.get("timings_seconds")),
        versions=_values(_TEXT, plain.get("versions")),
        runtime=_valid(_RUNTIME, plain.get("runtime")),
        readings=_valid(_COUNT, spent.get("readings")) if isinstance(spent, Mapping) else None,
        settings=_settings(plain.get("config")),
    )


def list_of(report: Any, name: str) -> list[Any] | None:
    """The list of that name in a report; None where it has none."""
    found = report.get(name) if isinstance(report, Mapping) else None
    return found if isinstance(found, list) else None


def entries_of(history: Any) -> list[HistoryEntry]:
    """Steps of training that have their form."""
    return _each(_ENTRY, history)


def verifications_of(verifications: Any) -> list[RunVerification]:
    """Measurements of whole files that have their form."""
    return _each(_VERIFICATION, verifications)


_WIDTHS = TypeAdapter(GroupWidths)
_LAYER = TypeAdapter(LayerLatency)
_ENTRY = TypeAdapter(HistoryEntry)
_VERIFICATION = TypeAdapter(RunVerification)
_RUNTIME = TypeAdapter(RuntimeConfig)
_TEXT = TypeAdapter(str)
_SECONDS: TypeAdapter[float] = TypeAdapter(Annotated[float, Field(ge=0, allow_inf_nan=False)])
_COUNT: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(ge=0)])


def _valid(kind: TypeAdapter[Value], plain: Any) -> Value | None:
    try:
        return kind.validate_python(plain)
    except ValidationError:
        return None


def _each(kind: TypeAdapter[Value], plain: Any) -> list[Value]:
    if not isinstance(plain, list):
        return []
    return [found for one in plain if (found := _valid(kind, one)) is not None]


def _values(kind: TypeAdapter[Value], plain: Any) -> dict[str, Value]:
    if not isinstance(plain, Mapping):
        return {}
    found = ((str(name), _valid(kind, value)) for name, value in plain.items())
    return {name: value for name, value in found if value is not None}


def _settings(config: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(config, Mapping):
        return {}
    found: dict[str, str] = {}
    for name, value in config.items():
        place = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found |= _settings(value, f"{place}.")
        else:
            found[place] = str(value)
    return found
