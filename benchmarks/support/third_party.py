"""Latencies that others measured, as plain vectors: tables in a folder given by path.

Their reference errors are those of a kernel ridge (RBF + linear, leave-one-out tuned, log target),
mean of two seeds on 2,000 held-out networks, in per cent.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from latency_service.training.models.block_features import BlockLayout
from latency_service.training.pipeline import VectorSet

Floats = npt.NDArray[np.float64]

OFA_REFERENCES = {
    "titan_rtx_64": (3.97, 2.38, 2.21),
    "v100_64": (3.37, 2.09, 1.90),
    "titan_xp_64": (4.70, 3.26, 3.04),
}
ACCEL_REFERENCES = {
    "throughput_a100": (8.01, 4.38, 2.05),
    "throughput_3090": (6.77, 4.08, 2.04),
    "throughput_tpuv2": (5.03, 3.84, 2.89),
    "latency_zcu102": (13.3, 6.82, 3.99),
}
HAT_REFERENCES = {
    "wmt14ende_cpu_raspberrypi": (5.57, 4.44, 4.10),
    "wmt14ende_cpu_xeon": (6.68, 5.53, 5.11),
}
#: Cumulative strides of OFA's five stages; then the stage of each of its 20 blocks.
_OFA_STRIDES = (4, 8, 16, 16, 32)
_OFA_STAGE = np.repeat(np.arange(5), 4)


@dataclass(frozen=True, kw_only=True)
class Table:
    """One column of latencies and its vectors."""

    #: Data set and target.
    family: str
    name: str
    columns: list[str]
    layout: BlockLayout
    #: Vectors [N, D] and latencies [N].
    widths: Floats
    latency_ms: Floats
    #: Reference errors in per cent, by number of measurements.
    references: dict[int, float]

    def training_set(self, rows: npt.NDArray[np.int64], seed: int) -> VectorSet:
        """The measurements `rows` [n]."""
        return VectorSet(
            space_id=self.family,
            names=self.columns,
            layout=self.layout,
            fingerprint=self.name,
            measurement_ids=[str(row) for row in rows],
            widths=self.widths[rows],
            latency_ms=self.latency_ms[rows],
            half_width=np.full(len(rows), np.inf),
            seed=seed,
        )

    def split(self, count: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """`count` rows to train on and up to 2,000 others."""
        rows = np.random.default_rng(seed).permutation(len(self.latency_ms))
        return rows[:count], rows[count : count + 2000]


def needed(data: Path | None) -> Path:
    """The folder, or the end of the program with the cure."""
    if data is None or not data.is_dir():
        print("give the folder of the third-party latency files: --data FOLDER", file=sys.stderr)
        raise SystemExit(2)
    return data


def referenced(data: Path) -> list[Table]:
    """The tables that have a reference."""
    every = [*ofa(data), *accel(data), *hat(data)]
    return [table for table in every if table.references]


def ofa(data: Path) -> list[Table]:
    """5,000 MobileNetV3 subnets of once-for-all (HELP): 20 blocks and the stem, on GPUs."""
    file = np.load(data / "help_ofa_mbv3.npz")
    pixels = np.ceil(file["resolution"][:, None] / np.array(_OFA_STRIDES))
    widths = np.broadcast_to(file["stage_width"], pixels.shape)
    blocks = [file[name] for name in ("kernel", "expand", "mid_channels")]
    values = np.concatenate([pixels, widths, *blocks], axis=1).astype(np.float64)
    names = [f"{name}{stage}" for name in ("pixels", "width") for stage in range(5)]
    names += [f"{name}{block}" for name in ("kernel", "expand", "channels") for block in range(20)]
    columns = [
        [10 + block, 30 + block, 50 + block, stage, 5 + stage]
        for block, stage in enumerate(_OFA_STAGE.tolist())
    ]
    layout = BlockLayout(columns=[*columns, [None, None, None, 0, None]], size=(2, 3, 3))
    return [
        Table(
            family="ofa",
            name=str(name),
            columns=names,
            layout=layout,
            widths=values,
            latency_ms=file["latency_ms"][:, column].astype(np.float64),
            references=_by_size(OFA_REFERENCES, str(name)),
        )
        for column, name in enumerate(file["devices"])
    ]


def accel(data: Path) -> list[Table]:
    """5,138 MnasNet-like networks (Accel-NASBench).

    Seven blocks, each with expansion, kernel, number of layers and squeeze-excite.
    """
    rows = _rows(data / "accel_nasbench.csv.gz")
    names = [name for name in rows[0] if name.startswith("block")]
    values = np.array([[float(row[name]) for name in names] for row in rows])
    layout = BlockLayout(columns=[range(4 * block, 4 * block + 4) for block in range(7)], size=(2,))
    tables = []
    for name in ("throughput_tpuv3", "latency_vck190", *ACCEL_REFERENCES):
        raw = np.array([float(row[f"{name}__mean"] or "nan") for row in rows])
        known = np.isfinite(raw)
        tables.append(
            Table(
                family="accel-nasbench",
                name=name,
                columns=names,
                layout=layout,
                widths=values[known],
                latency_ms=raw[known] if name.startswith("latency") else 1000 / raw[known],
                references=_by_size(ACCEL_REFERENCES, name),
            )
        )
    return tables


def hat(data: Path) -> list[Table]:
    """Transformers (HAT): means over the layers of encoder and decoder; latency is their sum."""
    rows = _rows(data / "hat_transformer_latency.csv.gz")
    names = [name for name in rows[0] if name.startswith(("encoder", "decoder"))]
    layout = BlockLayout(columns=[[0, 1, 2, 3, None, None], [4, 5, 6, 7, 8, 9]], size=(1,))
    tables = []
    for setup in sorted({row["dataset"] for row in rows}):
        mine = [row for row in rows if row["dataset"] == setup]
        latency = [
            float(row["latency_mean_encoder"]) + float(row["latency_mean_decoder"]) for row in mine
        ]
        tables.append(
            Table(
                family="hat",
                name=setup,
                columns=names,
                layout=layout,
                widths=np.array([[float(row[name]) for name in names] for row in mine]),
                latency_ms=np.array(latency),
                references=_by_size(HAT_REFERENCES, setup, most=1600),
            )
        )
    return tables


def _by_size(
    references: Mapping[str, tuple[float, ...]], name: str, most: int = 1000
) -> dict[int, float]:
    return dict(zip((100, 400, most), references[name], strict=True)) if name in references else {}


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path) as file:
        return list(csv.DictReader(io.TextIOWrapper(file)))
