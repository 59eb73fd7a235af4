"""What the pages of predictors show: pure functions of stored rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from pydantic import BaseModel, Field

from latency_service.core.arrays import Floats
from latency_service.core.text import in_runs
from latency_service.dashboard.places import Place, place_of
from latency_service.dashboard.statistics import Interval, share_interval
from latency_service.predictors import freshness
from latency_service.predictors.models import StoredPredictor
from latency_service.predictors.schemas import HeldOut, LearningPoint, ModelErrors, Sidecar

#: Number of regions of latency in which errors are shown.
REGIONS = 5


class PredictorRow(BaseModel):
    """A predictor in a list. Errors in per cent."""

    id: str
    space_id: str
    space: str
    place: Place
    version: int
    model: str
    measurements: int
    mape: float = Field(description="mean absolute percentage error, held out")
    floor: float | None = Field(description="median difference between repeated measurements")
    coverage: float = Field(description="held-out measurements inside the interval")
    level: float = Field(description="that should be inside")
    state: str = Field(description="current or stale")
    created_at: datetime


class PredictorList(BaseModel):
    predictors: list[PredictorRow]
    total: int


class Baseline(ModelErrors):
    """A model that was fitted on the same folds."""

    served: bool
    ratio: float | None = Field(description="of its error to that of the served model")


class CalibrationRow(BaseModel):
    """Prediction intervals of one level, in per cent."""

    nominal: float
    empirical: Interval
    n: int
    holds: bool = Field(description="whether the nominal level lies in the 95 % interval")


class Region(BaseModel):
    """Held-out errors of architectures of similar latency, in per cent."""

    low_ms: float
    high_ms: float
    n: int
    bias: float = Field(description="median signed error; positive is predicted too slow")
    mape: float
    p90: float | None = Field(description="90th percentile; only of 20 or more")


class GroupDomain(BaseModel):
    """Widths of a group: what there is, what was trained on, what is worth using."""

    group: str
    minimum: int
    full: int
    trained_low: float | None
    trained_high: float | None
    lattice: str
    lattice_count: int


class Pair(BaseModel):
    """An architecture that the model had not seen."""

    widths: list[float]
    measured_ms: float
    predicted_ms: float
    error_percent: float = Field(description="of the prediction, signed")


class Ask(BaseModel):
    """The same question over HTTP, from Python and from a terminal."""

    curl: str
    python: str
    cli: str


class PredictorPage(BaseModel):
    """One predictor."""

    summary: PredictorRow
    cure: str | None = Field(description="of a stale predictor: the command that repairs it")
    errors: ModelErrors | None = Field(description="of the served model")
    coverage: Interval = Field(description="in cross-validation, with its 95 % interval")
    dense_ms: float
    lowest_ms: float
    trained_seconds: float
    artifact_sha256: str
    measurements_sha256: str
    baselines: list[Baseline]
    learning_curve: list[LearningPoint]
    calibration: list[CalibrationRow]
    regions: list[Region]
    domain: list[GroupDomain]
    pairs: list[Pair]
    not_for: list[str]
    ask: Ask
    versions: dict[str, str]


def row_of(row: StoredPredictor, space: str) -> PredictorRow:
    sidecar = Sidecar.model_validate(row.sidecar)
    place = place_of(row.target)
    return PredictorRow(
        id=row.id,
        space_id=row.space_id,
        space=space,
        place=place,
        version=row.version,
        model=sidecar.model,
        measurements=sidecar.measurements,
        mape=sidecar.mape,
        floor=sidecar.repeat_difference,
        coverage=100 * sidecar.interval_coverage,
        level=100 * sidecar.interval_level,
        state="current" if place.is_current else "stale",
        created_at=row.created_at,
    )


def page_of(row: StoredPredictor, space: str, base_url: str) -> PredictorPage:
    """Everything about one predictor.

    Args:
        space: name of its search space.
        base_url: address of the service, for the commands to copy.
    """
    sidecar = Sidecar.model_validate(row.sidecar)
    held_out = None if row.held_out is None else HeldOut.model_validate(row.held_out)
    served = next((one for one in sidecar.rivals if one.name == sidecar.model), None)
    n = sidecar.measurements
    return PredictorPage(
        summary=row_of(row, space),
        cure=freshness.cure_of(row),
        errors=served,
        coverage=in_percent(share_interval(sidecar.interval_coverage * n, n)),
        dense_ms=sidecar.dense_ms,
        lowest_ms=sidecar.lowest_ms,
        trained_seconds=sidecar.trained_seconds,
        artifact_sha256=row.artifact_sha256,
        measurements_sha256=sidecar.measurements_sha256,
        baselines=baselines_of(sidecar),
        learning_curve=sidecar.learning_curve,
        calibration=calibration_of(held_out),
        regions=regions_of(held_out),
        domain=domain_of(sidecar, held_out),
        pairs=pairs_of(held_out),
        not_for=not_for(sidecar, held_out),
        ask=ask_of(row.id, sidecar.full_widths, base_url),
        versions=sidecar.versions,
    )


def in_percent(share: Interval) -> Interval:
    return Interval(value=100 * share.value, lower=100 * share.lower, upper=100 * share.upper)


def baselines_of(sidecar: Sidecar) -> list[Baseline]:
    """Every model fitted on the same folds, lowest error first."""
    found = [
        Baseline(
            **rival.model_dump(),
            served=rival.name == sidecar.model,
            ratio=rival.mape / sidecar.mape if sidecar.mape > 0 else None,
        )
        for rival in sidecar.rivals
    ]
    return sorted(found, key=lambda one: one.mape)


def calibration_of(held_out: HeldOut | None) -> list[CalibrationRow]:
    """How often intervals of several levels hold, with n."""
    if held_out is None:
        return []
    n = len(held_out.measured_ms)
    rows = []
    for point in held_out.coverage:
        found = share_interval(point.empirical * n, n)
        rows.append(
            CalibrationRow(
                nominal=100 * point.nominal,
                empirical=in_percent(found),
                n=n,
                holds=found.lower <= point.nominal <= found.upper,
            )
        )
    return rows


def pairs_of(held_out: HeldOut | None) -> list[Pair]:
    """Held-out architectures, fastest first."""
    if held_out is None:
        return []
    triples = zip(held_out.widths, held_out.measured_ms, held_out.predicted_ms, strict=True)
    pairs = [
        Pair(
            widths=widths,
            measured_ms=measured,
            predicted_ms=predicted,
            error_percent=100 * (predicted / measured - 1),
        )
        for widths, measured, predicted in triples
    ]
    return sorted(pairs, key=lambda pair: pair.measured_ms)


def regions_of(held_out: HeldOut | None) -> list[Region]:
    """Errors in regions of equal count, from fast to slow."""
    pairs = pairs_of(held_out)
    if not pairs:
        return []
    count = min(REGIONS, len(pairs))
    parts = np.array_split(np.arange(len(pairs)), count)
    return [_region([pairs[at] for at in part]) for part in parts]


def _region(pairs: Sequence[Pair]) -> Region:
    errors: Floats = np.array([pair.error_percent for pair in pairs])
    return Region(
        low_ms=pairs[0].measured_ms,
        high_ms=pairs[-1].measured_ms,
        n=len(pairs),
        bias=float(np.median(errors)),
        mape=float(np.abs(errors).mean()),
        p90=float(np.quantile(np.abs(errors), 0.9)) if len(pairs) >= 20 else None,
    )


def domain_of(sidecar: Sidecar, held_out: HeldOut | None) -> list[GroupDomain]:
    """Range of each group's widths."""
    trained = None if held_out is None else np.array(held_out.widths)
    return [
        GroupDomain(
            group=name,
            minimum=sidecar.minimum_widths[g],
            full=sidecar.full_widths[g],
            trained_low=None if trained is None else float(trained[:, g].min()),
            trained_high=None if trained is None else float(trained[:, g].max()),
            lattice=in_runs(sidecar.lattice[g]),
            lattice_count=len(sidecar.lattice[g]),
        )
        for g, name in enumerate(sidecar.groups)
    ]


def not_for(sidecar: Sidecar, held_out: HeldOut | None) -> list[str]:
    """What the predictor must not be used for."""
    level = 100 * sidecar.interval_level
    found = [
        "Another device, runtime, number of threads, batch or precision: each target has its own "
        "predictor.",
        "Whether one file meets a budget: measure that file (a verification). The interval is that "
        f"of {level:.0f} % of architectures, not of one.",
        "Widths between those of the lattice: latency is a sawtooth there, and the prediction is "
        "exact in form only at lattice and measured widths.",
    ]
    if sidecar.repeat_difference is not None:
        found.append(
            f"Ranking architectures that differ by less than {sidecar.repeat_difference:.1f} %: "
            "so much do two measurements of one architecture differ."
        )
    if held_out is not None:
        low, high = min(held_out.measured_ms), max(held_out.measured_ms)
        found.append(f"Latencies outside {low:.3g} to {high:.3g} ms, the range that was measured.")
    return found


def ask_of(predictor_id: str, widths: Sequence[int], base_url: str) -> Ask:
    """The call for the dense network in three forms."""
    numbers = ", ".join(str(width) for width in widths)
    url = base_url.rstrip("/")
    return Ask(
        curl=(
            f"curl -s {url}/v1/predictors/{predictor_id}/predict \\\n"
            '  -H "Authorization: Bearer $LATENCY_SERVICE_TOKEN" \\\n'
            f"""  -d '{{"widths": [{numbers}]}}'"""
        ),
        python=(
            "from latency_service.core.client import Client\n\n"
            f'with Client("{url}") as client:\n'
            f'    print(client.predict("{predictor_id}", [[{numbers}]]))'
        ),
        cli=(
            f"latency-service predictors predict {predictor_id} "
            f"--widths {numbers.replace(' ', '')} --server {url}"
        ),
    )
