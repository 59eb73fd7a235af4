from __future__ import annotations

import pytest

from latency_service.dashboard.places import Place
from latency_service.dashboard.targets import figures, views
from latency_service.dashboard.targets.agreement import Agreement, Widths, agreement_of, shared
from latency_service.devices.schemas import RuntimeConfig
from latency_service.lattices.finding import find_lattice
from latency_service.lattices.schemas import LatticePoint


def point(width: int, ms: float) -> LatticePoint:
    return LatticePoint(width=width, latency_ms=ms, lower_ms=0.99 * ms, upper_ms=1.01 * ms)


def sweep() -> views.Sweep:
    points = [point(7, 1.5), point(8, 1.0), point(9, 1.3), point(12, 1.1), point(16, 1.2)]
    return views.sweep_of(find_lattice({"conv3x3": points}).kinds[0])


def place(device: str) -> Place:
    return Place(
        target_id=device,
        device=device,
        runtime=RuntimeConfig(),
        fingerprint="f" * 64,
        is_current=True,
    )


def agreement(*latencies: tuple[Widths, float, float]) -> Agreement:
    return agreement_of(("s", "net"), (place("a"), place("b")), latencies, "measured")


def test_the_costliest_width_is_named_with_the_one_that_beats_it() -> None:
    found = sweep()
    assert found.costliest is not None
    assert (found.costliest.width, found.better_width) == (7, 8)
    assert found.waste_percent == pytest.approx(50.0)
    assert (found.worthwhile, found.dominated) == (3, 2)


def test_a_sweep_without_a_dominated_width() -> None:
    found = views.sweep_of(find_lattice({"linear": [point(1, 1.0), point(2, 2.0)]}).kinds[0])
    assert (found.costliest, found.waste_percent, found.better_width) == (None, None, None)


def test_lattice_and_dominated_widths_differ_in_more_than_colour() -> None:
    _, on, off = figures.sawtooth(sweep())["data"]
    assert (on["x"], off["x"]) == ([8, 12, 16], [7, 9])
    assert on["marker"]["symbol"] != off["marker"]["symbol"]
    assert not on["marker"]["symbol"].endswith("-open"), "measured markers are filled"
    assert on["error_y"]["arrayminus"] == pytest.approx([0.01, 0.011, 0.012])


def test_facts_that_have_changed_stand_out() -> None:
    before = {"governor": "powersave", "cores": 4}
    facts = views.facts_of(before, {"governor": "performance", "cores": 4, "turbo": True})
    assert [(fact.name, fact.value, fact.now) for fact in facts] == [
        ("cores", "4", None),
        ("governor", "powersave", "performance"),
        ("turbo", "not known", "yes"),
    ]


def test_only_shared_architectures_are_compared() -> None:
    assert shared({(4,): 1.0, (8,): 2.0}, {(8,): 3.0, (12,): 4.0}) == [((8,), 2.0, 3.0)]


def test_targets_that_rank_alike() -> None:
    found = agreement(*[((w,), 1.0 * w, 3.0 * w) for w in range(1, 9)])
    assert found.correlation == pytest.approx(1.0)
    assert found.ratio == pytest.approx(3.0)
    assert all(pair.moved == 0 for pair in found.compared)


def test_where_targets_disagree_comes_first() -> None:
    rows: list[tuple[Widths, float, float]] = [((w,), 1.0 * w, 1.0 * w) for w in range(1, 10)]
    rows[0] = ((1,), 1.0, 99.0)
    found = agreement(*rows)
    assert (found.disagreeing[0].widths, found.disagreeing[0].moved) == ([1], 8.0)
    assert found.correlation is not None
    assert found.interval is not None
    assert found.interval.lower < found.correlation < found.interval.upper


def test_two_architectures_have_no_correlation() -> None:
    found = agreement(((1,), 1.0, 1.0), ((2,), 2.0, 2.0))
    assert (found.correlation, found.interval) == (None, None)


def test_each_target_has_its_axis() -> None:
    rows: list[tuple[Widths, float, float]] = [((w,), 1.0 * w, 50.0 * w) for w in range(1, 9)]
    layout = figures.beside(agreement(*rows))["layout"]
    assert layout["xaxis"]["title"]["text"] == "On a, ms (log)"
    assert layout["xaxis"]["range"] != layout["yaxis"]["range"]
