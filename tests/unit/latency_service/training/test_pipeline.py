from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from latency_service.spaces.errors import WidthsError
from latency_service.training import pipeline as training
from latency_service.training.dataset import merge
from latency_service.training.evaluation import errors
from latency_service.training.models.lpnet import LPNet
from latency_service.training.models.registry import LPNET, TRANSFERRED, CandidateModel
from latency_service.training.pipeline import Trained, TrainingError, TrainingSet, train
from tests.support.simulated import sampled, simulated_ms
from tests.support.training_sets import NOISE, predict, without


def test_the_structured_lpnet_is_served_and_beats_every_rival(trained: Trained) -> None:
    mapes = {entry.name: entry.mape for entry in trained.sidecar.rivals}
    assert list(mapes) == [
        "lpnet",
        "lpnet-mlp",
        "flops-line",
        "kernel-ridge",
        "gaussian-process",
        "gradient-boosting",
    ]
    assert trained.sidecar.model == "lpnet"
    assert trained.sidecar.mape == mapes["lpnet"] == min(mapes.values())
    assert mapes["lpnet"] < 2.5
    assert {entry.name for entry in trained.sidecar.rivals if not entry.differentiable} == {
        "gradient-boosting"
    }


def test_new_architectures_are_predicted_as_well_as_promised(
    trained: Trained, training_set: TrainingSet
) -> None:
    widths = sampled(training_set.space, 400, seed=9)
    truth = simulated_ms(training_set.space, widths)
    measured = truth * np.exp(NOISE * np.random.default_rng(0).standard_normal(400))
    latency, lower, upper = predict(trained, widths)
    assert 100 * np.mean(np.abs(latency / measured - 1)) < 1.4 * trained.sidecar.mape
    assert np.mean((lower <= measured) & (measured <= upper)) > 0.8


def test_the_sidecar_says_what_it_was_trained_on(
    trained: Trained, training_set: TrainingSet
) -> None:
    sidecar = trained.sidecar
    space = training_set.space
    assert (sidecar.space_id, sidecar.fingerprint) == (space.id, training_set.fingerprint)
    assert sidecar.measurements == 60
    ids = "\n".join(sorted(training_set.measurement_ids))
    assert sidecar.measurements_sha256 == hashlib.sha256(ids.encode()).hexdigest()
    assert sidecar.groups == [group.name for group in space.groups]
    assert sidecar.full_widths == space.full_widths
    assert sidecar.lattice == training_set.lattice
    dense, lowest = predict(trained, np.array([space.full_widths, [4] * len(space.groups)]))[0]
    assert sidecar.dense_ms == pytest.approx(dense, rel=1e-4)
    assert sidecar.lowest_ms == pytest.approx(lowest, rel=1e-4)
    assert 0.8 <= sidecar.interval_coverage <= 1
    assert {"python", "torch", "onnx", "scikit-learn"} <= set(sidecar.versions)


def test_repeats_give_the_floor(trained: Trained, training_set: TrainingSet) -> None:
    first = training_set.latency_ms[:10]
    second = training_set.latency_ms[60:]
    expected = np.median(100 * (np.maximum(first, second) / np.minimum(first, second) - 1))
    assert trained.sidecar.repeat_difference == pytest.approx(expected, rel=1e-6)


def test_repeats_are_averaged_by_their_intervals(training_set: TrainingSet) -> None:
    """A wide one beside a narrow one neither moves nor blurs it; two of a kind meet in the
    middle.
    """
    first = [0, 1]
    last = [60, 61]
    latency_ms = training_set.latency_ms.copy()
    half_width = training_set.half_width.copy()
    latency_ms[last] = 1.1 * latency_ms[first]
    half_width[last[0]] = 20 * half_width[first[0]]
    mixed = merge(replace(training_set, latency_ms=latency_ms, half_width=half_width))
    places = [
        int(np.flatnonzero((mixed.widths == training_set.widths[one]).all(1))[0]) for one in first
    ]
    moved = np.log(mixed.latency_ms[places] / latency_ms[first]) / np.log(1.1)
    assert moved == pytest.approx([1 / 401, 0.5])
    single = int(np.flatnonzero((mixed.widths == training_set.widths[20]).all(1))[0])
    narrow, both = mixed.weights[places] / mixed.weights[single]
    assert 1 < narrow < 1.01
    assert both > 1.5


def test_training_again_gives_the_same_file(trained: Trained, training_set: TrainingSet) -> None:
    order = np.random.default_rng(0).permutation(len(training_set.latency_ms))
    shuffled = replace(
        training_set,
        measurement_ids=[training_set.measurement_ids[i] for i in order],
        widths=training_set.widths[order],
        latency_ms=training_set.latency_ms[order],
        half_width=training_set.half_width[order],
    )
    again = train(shuffled)
    widths = sampled(training_set.space, 20, seed=4)
    np.testing.assert_allclose(predict(again, widths)[0], predict(trained, widths)[0], rtol=1e-4)
    assert again.sidecar.measurements_sha256 == trained.sidecar.measurements_sha256


def test_twelve_measurements_are_enough_and_progress_is_told(training_set: TrainingSet) -> None:
    told: list[tuple[str, float]] = []
    trained = train(
        without(training_set, 12), progress=lambda phase, share: told.append((phase, share))
    )
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert told[-1] == ("done", 1.0)
    assert "training lpnet" in {phase for phase, _ in told}
    assert trained.sidecar.repeat_difference is None


def test_too_few_architectures_says_how_many(training_set: TrainingSet) -> None:
    with pytest.raises(TrainingError, match=r"9 different .* at least 10 .*campaigns create"):
        train(without(training_set, 9))


def test_a_latency_that_never_changes_is_refused(training_set: TrainingSet) -> None:
    with pytest.raises(TrainingError, match="nothing to predict"):
        train(replace(training_set, latency_ms=np.full(len(training_set.latency_ms), 0.7)))


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_an_impossible_latency_is_named(training_set: TrainingSet, value: float) -> None:
    latency = training_set.latency_ms.copy()
    latency[3] = value
    with pytest.raises(TrainingError, match="m3 "):
        train(replace(training_set, latency_ms=latency))


def test_widths_outside_the_space_are_refused(training_set: TrainingSet) -> None:
    widths = training_set.widths.copy()
    widths[0, 1] = 1000
    with pytest.raises(WidthsError, match="width 1000 of group 'g1'"):
        train(replace(training_set, widths=widths))


def compared(candidate: CandidateModel, off: np.ndarray) -> training._Compared:
    found = errors(candidate.name, off, np.ones(len(off)), differentiable=True)
    return training._Compared(candidate=candidate, held_out=off, errors=found, model=None, gain=1.0)  # type: ignore[arg-type]


def test_another_kind_must_err_surely_less_than_the_transferred_one() -> None:
    rng = np.random.default_rng(0)
    off = 0.05 * np.abs(rng.standard_normal(10))
    transferred = compared(TRANSFERRED, off)
    by_chance = compared(LPNET, np.where(np.arange(10) == off.argmax(), 0.0, 1.1 * off))
    assert by_chance.errors.mape < transferred.errors.mape
    assert training._served([transferred, by_chance], np.ones(10)) is transferred
    twice = compared(LPNET, 0.05 - np.where(np.arange(10) % 2, 0.026, -0.006))
    even = compared(TRANSFERRED, np.full(10, 0.05))
    assert twice.errors.mape < even.errors.mape
    assert training._served([even, twice], np.ones(10)) is even, "less by 1.9 standard errors"
    surely = compared(LPNET, 0.5 * off)
    assert training._served([transferred, surely], np.ones(10)) is surely
    assert training._served([by_chance], np.ones(10)) is by_chance


def test_what_the_last_fifth_gains_is_taken_where_it_was_not_seen() -> None:
    def net(deviation: list[float]) -> LPNet:
        return LPNet(features=None, parameters=None, unseen_deviation=np.array(deviation))  # type: ignore[arg-type]

    models = [net([4.0, 9.0, 4.0]), net([9.0, 4.0, 9.0]), net([2.0, 2.0, 2.0])]
    assert training._gain(models, np.array([0, 1, 0])) == 0.5
    assert training._gain([*models[:2], object()], np.array([0, 1, 0])) == 1.0  # type: ignore[list-item]


def test_held_out_predictions_are_those_that_the_error_is_of(
    trained: Trained, training_set: TrainingSet
) -> None:
    held_out = trained.held_out
    off = np.abs(np.array(held_out.predicted_ms) / np.array(held_out.measured_ms) - 1)
    assert 100 * off.mean() == pytest.approx(trained.sidecar.mape)
    assert {tuple(row) for row in held_out.widths} == {
        tuple(map(float, row)) for row in training_set.widths.tolist()
    }
    levels = {point.nominal: point.empirical for point in held_out.coverage}
    assert levels[0.9] == trained.sidecar.interval_coverage
    assert sorted(levels.values()) == [levels[level] for level in sorted(levels)]
