"""Pruned networks on the lattice, against the dense network and FLOPs pruning of equal MACs.

Ours: the client's method ``most-macs`` (the most multiply-accumulates for the milliseconds) on the
lattice of this machine under the trained predictor, at seven shares of the dense latency. Theirs:
torch-pruning with its defaults (uniform ratios, any width), at the ratio whose multiply-accumulates
are nearest to ours. All of one network are measured in one batch, interleaved and corrected by the
same canaries, with weights drawn at random: latency does not depend on them. "Slower" is the
verdict of a test on the rounds (`measurements.statistics.compare`).
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.support.harness import Bar, Outcome, at_least
from benchmarks.support.predictors import machine_folder, machine_predictor
from benchmarks.support.untrained_jobs import NETWORKS
from latency_service.agent.measuring.profiler import LeaseResult, Profiler
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol
from latency_service.measurements.statistics import compare, summarise
from latency_service.spaces.layers import total_macs
from latency_service.spaces.slicing import SearchSpace
from pruning_client.graph.space import Traced, make_space
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.most_macs import most_macs
from pruning_client.service.embedded import embedded_service

#: Shares of the dense network's predicted latency.
SHARES = (0.4, 0.5, 0.6, 0.65, 0.7, 0.8, 0.9)
#: Lower limits of the speed-up divided by the reduction of multiply-accumulates.
_PER_MAC = {"mobilenet_v2": 0.9}
_PER_MAC_OTHERS = 0.95
_STEPS = 120
_DEEPEST = 0.85

Widths = list[int]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One of our architectures and one of torch-pruning's with about the same MACs."""

    network: str
    share: float
    ours: Widths
    theirs: Widths
    macs: float
    their_macs: float
    dense_macs: float
    latency_ms: float
    their_latency_ms: float
    dense_latency_ms: float
    against_dense: str
    against_theirs: str
    off_lattice: int

    @property
    def speed_per_mac(self) -> float:
        return (self.dense_latency_ms / self.latency_ms) / (self.dense_macs / self.macs)


def run(quick: bool) -> Outcome:
    """Four networks at seven sizes; quick: one network at two."""
    torch.manual_seed(0)
    folder = machine_folder(quick)
    names, shares = (["mobilenet_v2"], SHARES[2:4]) if quick else (list(NETWORKS), SHARES)
    traced = {}
    models = {}
    for name in names:
        models[name], example = NETWORKS[name]()
        traced[name] = make_space(models[name], example, name=name)
    with embedded_service(folder / "service") as service:
        predictors = {}
        for name in names:
            print(f"predictor of {name}", flush=True)
            count, repeats = (24, 4) if quick else (100, 10)
            predictors[name] = machine_predictor(
                service, traced[name].space, count=count, repeats=repeats
            )
    profiler = Profiler(folder / "profiler")
    pairs = []
    for name in names:
        print(f"measure {name}", flush=True)
        pairs += _pairs(profiler, name, models[name], traced[name], predictors[name], shares)
    _print(pairs)
    data = {"pairs": [asdict(pair) | {"speed_per_mac": pair.speed_per_mac} for pair in pairs]}
    return Outcome(bars=_bars(pairs), data=data | {"ranges": _ranges(pairs)})


def _pairs(
    profiler: Profiler,
    name: str,
    model: nn.Module,
    traced: Traced,
    predictor: Predictor,
    shares: Sequence[float],
) -> list[Pair]:
    space = traced.space
    ours = [_on_lattice(space, predictor, share) for share in shares]
    table = arbitrary_widths(model, traced)
    their_macs = np.array([_macs(space, widths) for widths in table])
    theirs = [table[int(np.abs(their_macs - _macs(space, widths)).argmin())] for widths in ours]
    everything = [list(space.full_widths), *ours, *theirs]
    protocol = Protocol()
    measured = profiler.batch(space.data, everything, RuntimeConfig(), protocol)
    latency_ms = [
        summarise(r.rounds, measured.calibration, protocol).latency_ms
        for r in measured.answer.results
    ]
    return [
        Pair(
            network=name,
            share=share,
            ours=mine,
            theirs=other,
            macs=_macs(space, mine),
            their_macs=_macs(space, other),
            dense_macs=_macs(space, space.full_widths),
            latency_ms=latency_ms[1 + i],
            their_latency_ms=latency_ms[1 + len(ours) + i],
            dense_latency_ms=latency_ms[0],
            against_dense=_verdict(measured, 1 + i, 0),
            against_theirs=_verdict(measured, 1 + i, 1 + len(ours) + i),
            off_lattice=sum(
                w not in choices for w, choices in zip(mine, predictor.lattice, strict=True)
            ),
        )
        for i, (share, mine, other) in enumerate(zip(shares, ours, theirs, strict=True))
    ]


def _on_lattice(space: SearchSpace, predictor: Predictor, share: float) -> Widths:
    dense_ms = float(predictor.latency_ms([space.full_widths])[0])
    return most_macs(space, predictor.latency_ms, predictor.lattice, share * dense_ms)


def arbitrary_widths(model: nn.Module, traced: Traced) -> list[Widths]:
    """Widths [N][G] of torch-pruning's defaults as its ratio rises in `_STEPS` steps."""
    import torch_pruning

    pruned: Any = copy.deepcopy(model).eval()
    example: Tensor = traced.example[0]
    pruner = torch_pruning.pruner.BasePruner(
        pruned,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(),
        pruning_ratio=_DEEPEST,
        iterative_steps=_STEPS,
        ignored_layers=[pruned.linear],
    )
    found = [_widths_of(pruned, traced.space)]
    for _ in range(_STEPS):
        pruner.step()
        found.append(_widths_of(pruned, traced.space))
    assert all(
        a >= b for before, after in pairwise(found) for a, b in zip(before, after, strict=True)
    )
    low = [group.minimum for group in traced.space.groups]
    return [widths for widths in found if all(w >= m for w, m in zip(widths, low, strict=True))]


def _widths_of(model: nn.Module, space: SearchSpace) -> Widths:
    """Width of each of our groups in a network pruned by torch-pruning.

    Raises:
        RuntimeError: its groups are not ours.
    """
    widths = []
    for group in space.groups:
        found = {int(model.get_submodule(member).out_channels) for member in group.members}  # type: ignore[arg-type]
        if len(found) != 1:
            raise RuntimeError(
                f"torch-pruning cut the members of {group.name} to different widths: "
                f"{sorted(found)}"
            )
        widths.append(found.pop())
    return widths


def _macs(space: SearchSpace, widths: Sequence[int]) -> float:
    return float(total_macs(space, widths))


def _verdict(measured: LeaseResult, one: int, other: int) -> str:
    results = measured.answer.results
    return compare(results[one].rounds, results[other].rounds, measured.calibration)


def _bars(pairs: list[Pair]) -> list[Bar]:
    counts = {
        "slower than the dense network": sum(pair.against_dense == "slower" for pair in pairs),
        "slower than FLOPs pruning at the same MACs": sum(
            pair.against_theirs == "slower" for pair in pairs
        ),
        "widths outside the lattice": sum(pair.off_lattice for pair in pairs),
    }
    bars = [
        Bar(bar=text, value=n, limit=0, unit=f"of {len(pairs)}", holds=not n)
        for text, n in counts.items()
    ]
    for network, values in _ranges(pairs).items():
        limit = _PER_MAC.get(network, _PER_MAC_OTHERS)
        bars.append(
            at_least(
                f"{network}: speed-up / MAC reduction, median",
                values["speed_per_mac"][1],
                limit,
                "x",
            )
        )
    return bars


def _ranges(pairs: list[Pair]) -> dict[str, dict[str, list[float]]]:
    """Lowest, median and highest ratio, by network and kind of ratio."""
    found: dict[str, dict[str, list[float]]] = {}
    for network in dict.fromkeys(pair.network for pair in pairs):
        own = [pair for pair in pairs if pair.network == network]
        ratios = {
            "speed_per_mac": [pair.speed_per_mac for pair in own],
            "theirs_to_ours": [pair.their_latency_ms / pair.latency_ms for pair in own],
            "theirs_to_dense": [pair.their_latency_ms / pair.dense_latency_ms for pair in own],
        }
        found[network] = {key: [min(v), statistics.median(v), max(v)] for key, v in ratios.items()}
    return found


def _print(pairs: list[Pair]) -> None:
    table = Table(title="shares of the dense network, and theirs against ours")
    columns = (
        "network",
        "MACs",
        "their MACs",
        "latency",
        "their latency",
        "theirs/ours",
        "speed/MAC",
    )
    for column in columns:
        table.add_column(
            column, justify="left" if column == "network" else "right", no_wrap=column == "network"
        )
    for p in pairs:
        table.add_row(
            p.network,
            f"{p.macs / p.dense_macs:.2f}",
            f"{p.their_macs / p.dense_macs:.2f}",
            f"{p.latency_ms / p.dense_latency_ms:.3f}",
            f"{p.their_latency_ms / p.dense_latency_ms:.3f}",
            f"{p.their_latency_ms / p.latency_ms:.3f}",
            f"{p.speed_per_mac:.3f}",
        )
    Console().print(table)
