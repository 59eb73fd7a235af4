"""What the pruning benchmarks compute from their cases, and what they take from torch-pruning."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.cases import accuracy, budget, int8, methods, never_slower
from benchmarks.cases.never_slower import Pair, arbitrary_widths
from benchmarks.support import contest, figures, summaries
from benchmarks.support.contest import Case
from benchmarks.support.networks import ResNet
from latency_service.spaces.layers import total_macs
from pruning_client.graph.space import make_space
from pruning_client.methods.registry import METHODS
from pruning_client.reports.contest_schema import ContestEntry
from tests.support.contests import entry, result
from tests.support.networks import CifarResNet


def case(method: str, accuracy: float, **more: Any) -> Case:
    values: dict[str, Any] = {
        "seed": 0,
        "share": 0.5,
        "widths": [8],
        "latency_ms": 0.99,
        "dense_ms": 1.98,
    }
    values |= {
        "network": "resnet20",
        "machine": "0123",
        "dense_accuracy": 90.0,
        "seconds": 1.0,
        **more,
    }
    return Case(method=method, accuracy=accuracy, **values)


def pair(**more: Any) -> Pair:
    values: dict[str, Any] = {
        "network": "resnet20",
        "share": 0.5,
        "ours": [8],
        "theirs": [7],
        "macs": 50.0,
        "their_macs": 49.0,
        "dense_macs": 100.0,
        "latency_ms": 0.5,
        "their_latency_ms": 0.8,
        "dense_latency_ms": 1.0,
        "against_dense": "faster",
        "against_theirs": "faster",
        "off_lattice": 0,
    }
    return Pair(**{**values, **more})


def test_torch_prunings_widths_fall_evenly_and_are_not_rounded() -> None:
    torch.manual_seed(0)
    model = ResNet((1, 1), (8, 16), classes=10, stem=3)
    traced = make_space(model, torch.zeros(2, 3, 8, 8), minimum=1)
    table = arbitrary_widths(model, traced)
    assert table[0] == traced.space.full_widths
    macs = [float(total_macs(traced.space, widths)) for widths in table]
    assert macs == sorted(macs, reverse=True)
    assert min(macs) < 0.1 * macs[0]
    assert any(width % 4 for widths in table for width in widths)
    # uniform: every group keeps about the same share
    shares = [w / full for w, full in zip(table[60], traced.space.full_widths, strict=True)]
    assert max(shares) - min(shares) < 0.13
    assert model.conv1.out_channels == 8  # the model itself stays as it is


def test_speed_per_mac_and_verdicts_become_bars() -> None:
    assert pair().speed_per_mac == pytest.approx(1.0)
    assert pair(latency_ms=0.625).speed_per_mac == pytest.approx(0.8)
    good = {bar.bar: bar for bar in never_slower._bars([pair(), pair(latency_ms=0.51)])}
    assert all(bar.holds for bar in good.values())
    bad = [
        pair(against_theirs="slower"),
        pair(against_dense="slower"),
        pair(off_lattice=2, latency_ms=0.7),
    ]
    failed = {bar.bar: bar.value for bar in never_slower._bars(bad) if not bar.holds}
    assert failed == {
        "slower than the dense network": 1,
        "slower than FLOPs pruning at the same MACs": 1,
        "widths outside the lattice": 2,
    }


def test_an_int8_file_that_loses_accuracy_fails_a_bar() -> None:
    done = {
        "network": "resnet20",
        "refused": None,
        "outcome": "met",
        "over_percent": -1.0,
        "int8_ms": 0.5,
        "fp32_ms": 0.9,
        "int8_accuracy": 90.2,
        "fp32_accuracy": 91.0,
        "mape": 1.4,
        "repeat_difference": 1.0,
        "seconds": 60.0,
    }
    made = {"network": "resnet20", "mape": 0.6, "repeat_difference": 0.5}
    assert all(bar.holds for bar in int8._bars([made], [done]))
    worse = done | {"outcome": "not met", "int8_accuracy": 89.9}
    assert not any(bar.holds for bar in int8._bars([made | {"mape": 0.8}], [worse]))
    refused = {"network": "resnet20", "refused": "no int8 file"}
    assert [bar.holds for bar in int8._bars([], [refused])] == [False]
    assert int8._line(refused) == "resnet20: refused, no int8 file"


def test_a_verdict_that_is_wrong_fails_a_bar() -> None:
    done = {
        "condition": "quiet",
        "network": "resnet20",
        "share": 0.5,
        "refused": None,
        "outcome": "met",
        "over_percent": -0.5,
        "stated_share": 0.4975,
        "alternated_share": 0.498,
        "alternated_lowest": 0.497,
        "alternated_highest": 0.499,
        "verifications": 5,
        "seconds": 60.0,
    }
    loaded = done | {"condition": "loaded", "over_percent": -1.4}
    level = {"network": "resnet20", "level_percent": -1.4}
    assert all(bar.holds for bar in budget._bars([done, loaded], [level]))
    refused = {"condition": "quiet", "network": "r", "share": 0.1, "refused": "too small"}
    assert missed([done, refused]) == ["quiet: cases met"]
    assert "refused, too small" in budget._line(refused)
    assert missed([done | {"over_percent": 0.1}]) == ["quiet: over the budget, worst case"]
    assert missed([done | {"alternated_share": 0.511, "alternated_lowest": 0.501}]) == [
        "stated share against alternation, median",
        "stated share against alternation, worst",
        "met, but over the budget in every process of the loop",
    ]
    (bar,) = (
        bar for bar in budget._bars([done], [{**level, "level_percent": -1.6}]) if not bar.holds
    )
    assert bar.value == 1.6


def missed(cases: list[dict[str, Any]]) -> list[str]:
    return [bar.bar for bar in budget._bars(cases, []) if not bar.holds]


def test_accuracy_is_compared_at_the_same_budget_and_seed() -> None:
    cases = [
        case("uniform", 80.0),
        case("uniform", 84.0, seed=1),
        case("l1", 83.0),
        case("l1", 83.0, seed=1),
        case("w-gates", 83.0),
        case("w-gates", 84.0, seed=1, latency_ms=1.0),
    ]
    bars = {bar.bar: bar for bar in accuracy._bars("resnet20", cases, 3)}
    assert bars["resnet20: w-gates above uniform, mean"].value == pytest.approx(1.5)
    assert bars["resnet20: w-gates above l1, mean"].value == pytest.approx(0.5)
    assert bars["resnet20: w-gates above uniform at 50%"].holds
    assert bars["resnet20: latencies at one budget differ by"].value == pytest.approx(
        100 * (1 / 0.99 - 1)
    )
    assert not bars["resnet20: seeds"].holds
    with pytest.raises(ValueError, match="longer"):
        accuracy._bars("resnet20", [*cases, case("uniform", 80.0, seed=2)], 3)


def test_seeds_of_a_result_stay_where_data_sizes_and_precision_are_the_same(tmp_path: Path) -> None:
    result = tmp_path / "accuracy.json"
    cases = [case("uniform", 80.0), case("w-gates", 83.0)]
    setup = {"data": "mnist", "precision": "auto", "size": asdict(accuracy.QUICK)}
    assert accuracy.finished(result, setup) == []
    result.write_text(json.dumps({"data": {"setup": setup, "cases": list(map(asdict, cases))}}))
    assert accuracy.finished(result, setup) == cases
    assert accuracy.finished(result, setup | {"precision": "bfloat16"}) == []


@pytest.mark.parametrize("latency_ms", [0.96, 1.01])
def test_a_seed_with_a_network_that_is_not_as_fast_as_the_others_is_not_finished(
    latency_ms: float, tmp_path: Path
) -> None:
    result = tmp_path / "accuracy.json"
    setup = {"data": "cifar10"}
    first = [
        case("uniform", 80.0),
        case("l1", 81.0, latency_ms=0.995),
        case("w-gates", 83.0, latency_ms=latency_ms),
    ]
    # another budget has other latencies
    others = {"share": 0.8, "latency_ms": 1.5, "dense_ms": 1.875}
    second = [case("uniform", 81.0, seed=1), case("uniform", 82.0, seed=1, **others)]
    result.write_text(
        json.dumps({"data": {"setup": setup, "cases": [asdict(one) for one in [*first, *second]]}})
    )
    assert accuracy.finished(result, setup) == second


@pytest.mark.parametrize(
    ("dense_ms", "stays"), [(1.93, False), (1.95, True), (2.01, True), (2.03, False)]
)
def test_a_seed_whose_networks_miss_their_share_is_not_finished(
    dense_ms: float, stays: bool, tmp_path: Path
) -> None:
    result = tmp_path / "accuracy.json"
    setup = {"data": "cifar10"}
    cases = [case("uniform", 80.0, dense_ms=dense_ms), case("w-gates", 83.0, dense_ms=dense_ms)]
    result.write_text(
        json.dumps({"data": {"setup": setup, "cases": [asdict(one) for one in cases]}})
    )
    assert accuracy.finished(result, setup) == (cases if stays else [])


def test_the_mnist_images_are_cut_to_size_with_all_labels() -> None:
    name, train, test = contest.images_of(accuracy.QUICK.train, accuracy.QUICK.test, None)
    assert name == "mnist"
    labels = torch.cat([batch.target for batch in train.ordered()])
    assert torch.bincount(labels).tolist() == [accuracy.QUICK.train // 10] * 10
    (images,) = next(iter(test.ordered())).inputs
    assert images.shape[1:] == (3, 28, 28)


def test_published_weights_give_the_same_network_here() -> None:
    published = CifarResNet(3).eval()
    network = ResNet((3,) * 3, (16, 32, 64), classes=10, stem=3, padding=True).eval()
    network.load_state_dict(contest.renamed(published.state_dict(), 3))
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(network(images), published(images), atol=1e-5)


def row(method: str, accuracy: float | None, **more: Any) -> dict[str, Any]:
    entry = contest_entry(method, accuracy)
    return methods.row_of("vgg", 0.5, entry) | more


def contest_entry(method: str, accuracy: float | None) -> ContestEntry:
    found = None if accuracy is None else result(accuracy)
    failure = "needs labels" if accuracy is None else None
    return entry(method, found, budget="50%", failure=failure)


def test_pieces_of_the_methods_benchmark_stay_where_latencies_are_equal(tmp_path: Path) -> None:
    path = tmp_path / "methods.json"
    setup = {"data": "mnist", "size": asdict(methods.QUICK)}
    good = [row("uniform", 80.0), row("pfp", None)]
    bad = [row("uniform", 80.0, seed=1), row("l1", 81.0, seed=1, is_equal=False)]
    assert methods.finished(path, setup) == []
    path.write_text(json.dumps({"data": {"setup": setup, "rows": [*good, *bad]}}))
    assert methods.finished(path, setup) == good
    assert methods.finished(path, setup | {"data": "cifar10"}) == []
    size = replace(methods.FULL, seeds=(0, 1), networks=("vgg", "resnet20"), shares=(0.8, 0.5))
    assert methods.left(size, good) == [
        ("vgg", 0, 0.8),
        ("resnet20", 0, 0.8),
        ("resnet20", 0, 0.5),
        ("vgg", 1, 0.8),
        ("vgg", 1, 0.5),
        ("resnet20", 1, 0.8),
        ("resnet20", 1, 0.5),
    ]


def test_pieces_and_the_spread_of_latencies_are_bars() -> None:
    rows = [row("uniform", 80.0), row("l1", 82.0, latency_ms=0.618), row("pfp", None)]
    size = replace(methods.QUICK, networks=("vgg",))
    found = {bar.bar: bar for bar in methods.bars(size, rows)}
    assert found["networks, seeds and shares"].holds
    spread = found["vgg: latencies at one budget differ by"]
    assert spread.value == pytest.approx(3.0)
    assert not spread.holds


def test_the_methods_benchmark_is_summed_up_and_drawn() -> None:
    rows = [row("uniform", 80.0), row("uniform", 82.0, seed=1), row("pfp", None)]
    table = summaries.methods({"rows": rows})
    cells = {line["method"]: line["50% of the latency"] for line in table}
    assert cells == {"uniform": "81.0 ± 1.4", "pfp": "needs labels"}
    apart = row("l1", 81.0, is_equal=False, latency_ms=0.45, dense_ms=1.0)
    (line,) = summaries.methods({"rows": [apart]})
    assert line["50% of the latency"] == "81.0 (45.0 % of the latency)"
    (effort,) = summaries.methods_effort({"rows": rows})
    assert (effort["epochs"], effort["choosing"], effort["fine-tuning"]) == (
        "0 + 4",
        "20 s",
        "40 s",
    )
    figure = figures.methods({"data": {"rows": rows}})
    assert [panel.get_xlabel() for panel in figure.axes] == [
        "measured latency (ms)",
        "choosing channels and fine-tuning (s)",
    ]


def test_every_method_for_one_network_takes_part_in_the_methods_benchmark() -> None:
    built_in = [name for name in METHODS if name != "dcph"]
    assert methods.FULL.methods == (*built_in, *contest.TORCH_PRUNING)
    for network in methods.FULL.networks:
        assert contest.built(network)(torch.zeros(2, 3, 28, 28)).shape == (2, 10)
