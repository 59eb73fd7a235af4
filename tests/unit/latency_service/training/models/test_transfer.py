from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from latency_service.spaces.layers import layers
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.models import transfer
from latency_service.training.models.lpnet import LPNet, fit_lpnets
from latency_service.training.models.mixtures import fit_blend, nearest
from latency_service.training.models.transfer import LEAST_KNOWN, MEMBERS, fit_sources
from latency_service.training.pipeline import KnownTarget, TrainingSet, train
from tests.support.simulated import sampled, simulated_ms
from tests.support.training_sets import NOISE, predict, without


def elsewhere(space: SearchSpace, widths: np.ndarray, seed: int = 3) -> np.ndarray:
    """Another target [N]: twice as fast, with a longer overhead, and noise."""
    noise = np.exp(NOISE * np.random.default_rng(seed).standard_normal(len(widths)))
    return np.asarray((0.5 * simulated_ms(space, widths) ** 0.9 + 0.02) * noise)


@pytest.fixture(scope="module")
def known(space: SearchSpace) -> KnownTarget:
    widths = sampled(space, 50, seed=11)
    return KnownTarget(widths=widths, latency_ms=elsewhere(space, widths))


@pytest.fixture(scope="module")
def source(space: SearchSpace, known: KnownTarget) -> LPNet:
    (found,) = fit_sources(layers(space), [known], 0, lambda share: None)
    return found


def error(artifact_latency: np.ndarray, truth: np.ndarray) -> float:
    return 100 * float(np.abs(artifact_latency / truth - 1).mean())


def test_ten_measurements_and_another_target_make_a_usable_predictor(
    training_set: TrainingSet, known: KnownTarget
) -> None:
    few = without(training_set, 10)
    widths = sampled(training_set.space, 300, seed=21)
    truth = simulated_ms(training_set.space, widths)
    helped = train(replace(few, known=[known]))
    names = [entry.name for entry in helped.sidecar.rivals]
    assert names[0] == helped.sidecar.model == "lpnet-transfer"
    assert error(predict(helped, widths)[0], truth) < 4
    fitted = fit_sources(layers(few.space), [known], few.seed, lambda share: None)
    np.testing.assert_allclose(
        predict(train(few, sources=fitted), widths)[0], predict(helped, widths)[0], rtol=1e-3
    )


def test_what_was_learned_of_a_much_faster_target_is_served_as_it_is(
    training_set: TrainingSet, known: KnownTarget
) -> None:
    """And each table of it once, however many mixtures it is part of."""
    few = without(training_set, 10)
    widths = sampled(training_set.space, 300, seed=21)
    helped = train(replace(few, known=[replace(known, latency_ms=known.latency_ms / 200)]))
    assert helped.sidecar.model == "lpnet-transfer"
    assert error(predict(helped, widths)[0], simulated_ms(training_set.space, widths)) < 4
    file = onnx.load_from_string(helped.artifact)
    tables = [
        values.tobytes()
        for values in map(onnx.numpy_helper.to_array, file.graph.initializer)
        if values.ndim == 2 and values.shape[1] == 1 and np.unique(values).size > 50
    ]
    assert len(tables) == len(set(tables)) > 1


def test_targets_with_too_few_measurements_are_not_learned_from(
    space: SearchSpace, known: KnownTarget
) -> None:
    thin = KnownTarget(
        widths=known.widths[: LEAST_KNOWN - 1],
        latency_ms=known.latency_ms[: LEAST_KNOWN - 1],
    )
    assert fit_sources(layers(space), [thin], 0, lambda share: None) == []


def test_the_source_that_explains_the_target_comes_first(
    training_set: TrainingSet, source: LPNet
) -> None:
    widths = training_set.widths
    strange = KnownTarget(
        widths=widths,
        latency_ms=np.random.default_rng(0).uniform(1, 2, len(widths)),
    )
    (other,) = fit_sources(layers(training_set.space), [strange], 0, lambda share: None)
    ordered = nearest([other, source], widths[:10], training_set.latency_ms[:10])
    assert ordered[0] is source
    assert ordered[1] is other


def test_a_blend_recovers_a_power_of_another_target(space: SearchSpace, source: LPNet) -> None:
    widths = sampled(space, 30, seed=4)
    target = 0.3 * np.exp(1.2 * source.log_latency(widths))
    weights = np.where(np.arange(30) < 20, 1.0, 0.0)
    blend = fit_blend([source], widths, target, weights)
    np.testing.assert_allclose(blend.shares, [1.2], rtol=1e-2)
    np.testing.assert_allclose(np.exp(blend.log_latency(widths[20:])), target[20:], rtol=2e-3)


def test_kept_near_its_source_a_network_differs_by_its_level(
    training_set: TrainingSet, source: LPNet
) -> None:
    few = without(training_set, 12)
    widths = sampled(training_set.space, 100, seed=22)

    def bent(nearness: float) -> float:
        (model,) = fit_lpnets(
            source.features,
            few.widths,
            few.latency_ms,
            np.ones((1, len(few.latency_ms))),
            members=MEMBERS,
            seed=0,
            source=source,
            nearness=nearness,
        )
        return float(np.std(model.log_latency(widths) - source.log_latency(widths)))

    assert bent(1e4) < 0.5 * bent(1)


def test_what_errs_less_unseen_weighs_more_and_what_errs_much_more_nothing(
    training_set: TrainingSet, source: LPNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a power of the error that grows with the measurements; where nothing is held back, folds
    are.
    """
    widths = training_set.widths[:40]
    latency = training_set.latency_ms[:40]
    off = {"near": 0.02, "nearer": 0.1, "blend": 0.04, "bottlenecks": 0.05, "alone": 0.02}

    def fitted(name: str) -> SimpleNamespace:
        log_latency = lambda at: np.log(simulated_ms(training_set.space, at)) + off[name]  # noqa: E731
        return SimpleNamespace(log_latency=log_latency, name=name)

    def near(*given: Any, nearness: float, **_options: object) -> list[SimpleNamespace]:
        return [fitted("near" if nearness == 1 else "nearer") for _ in given[3]]

    monkeypatch.setattr(transfer, "fit_near", near)
    monkeypatch.setattr(transfer, "fit_blend", lambda *_given: fitted("blend"))
    monkeypatch.setattr(transfer, "fit_bottlenecks", lambda *_given: fitted("bottlenecks"))
    monkeypatch.setattr(
        transfer, "fit_lpnets", lambda *given, **_options: [fitted("alone") for _ in given[3]]
    )

    def shares(count: int, weights: np.ndarray) -> dict[str, float]:
        (found,) = transfer.fit_transferred(
            [source], widths[:count], latency[:count], weights, seed=0, progress=lambda share: None
        )
        return dict(zip([model.name for model in found.models], found.shares.tolist(), strict=True))

    ten = {"near": 10 / 21, "blend": 5 / 21, "bottlenecks": 4 / 21, "nearer": 2 / 21}
    assert shares(10, np.ones((1, 10))) == pytest.approx(ten, abs=0.01)
    twenty = {"near": 1 / 1.41, "blend": 0.25 / 1.41, "bottlenecks": 0.16 / 1.41}
    assert shares(20, np.ones((1, 20))) == pytest.approx(twenty, abs=0.01)
    assert shares(40, np.ones((1, 40))) == pytest.approx({"near": 1 / 2, "alone": 1 / 2}, abs=0.05)
