"""One file measured on one target: repeats of unstable measurements, and their pooling."""

from __future__ import annotations

from dataclasses import replace

import pytest

from latency_service.devices.schemas import RuntimeConfig
from pruning_client import Client
from pruning_client.pipeline import measure
from pruning_client.pipeline.measure import pooled
from pruning_client.pipeline.verify import Verify
from tests.support.goals import measured


def test_two_measurements_of_one_file_are_one() -> None:
    both = pooled(measured(1.0), measured(1.02))
    assert 1.0 < both.latency_ms < 1.02
    assert both.lower_ms <= 1.0
    assert both.upper_ms >= 1.02
    assert both.taken == 2
    assert pooled(measured(1.0), measured(1.0)).upper_ms < 1.01


def test_the_narrower_interval_has_the_larger_weight() -> None:
    both = pooled(measured(1.0, half_width=0.001), measured(1.1, half_width=0.01))
    assert both.latency_ms == pytest.approx(1.1 ** (1 / 101), rel=1e-6)


def test_an_unstable_measurement_says_nothing_beside_a_stable_one() -> None:
    stable = measured(1.0)
    unstable = replace(measured(1.1), lower_ms=1.099, upper_ms=1.101, verdict="unstable")
    for both in (pooled(stable, unstable), pooled(unstable, stable)):
        assert both == replace(stable, taken=2)
    assert 1.0 < pooled(unstable, replace(stable, verdict="unstable")).latency_ms < 1.1


@pytest.mark.parametrize(
    ("verdicts", "left", "taken", "pauses", "chosen"),
    [
        (["ok"], 10, 1, 0, 0),
        (["unstable", "ok"], 10, 2, 1, 1),
        (["unstable", "unstable"], 10, 2, 1, 0),
        (["unstable"], 4, 1, 0, 0),  # the rest is reserved for other files
    ],
)
def test_a_disturbed_device_is_waited_for(
    verdicts: list[str],
    left: int,
    taken: int,
    pauses: int,
    chosen: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the first has the narrower interval
    found = [
        replace(measured(1.0 + 0.1 * i), upper_ms=1.02 + 0.2 * i, verdict=v)
        for i, v in enumerate(verdicts)
    ]
    answers = iter(found)
    slept = list[float]()
    monkeypatch.setattr(measure.Verifier, "_measure_once", lambda *_: next(answers))
    verifier = measure.Verifier(
        client=Client("http://localhost:1", "token-of-a-test-that-never-connects"),
        device="board",
        runtime=RuntimeConfig(),
        space_id="s",
        config=Verify(pause_seconds=7),
        sleep=slept.append,
    )
    measurement = verifier.measure(b"", [4], phase="verify", left=left)
    assert measurement == replace(found[chosen], taken=taken)
    assert slept == [7] * pauses
