"""``pruning-client compress``: options become settings, and the result is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pruning_client.methods.unification.method import WeightUnification
from pruning_client.pipeline.compressed import Compressed, StoredBytes
from tests.support.outcomes import Run

WORDS = (
    "compress",
    "--model",
    "tests.support.tiny_networks:tiny_net",
    "--data",
    "tests.support.tiny_networks:digits",
)
RESULT = Compressed(
    module=torch.nn.Identity(),
    file=b"",
    sizes=StoredBytes(dense=1000, packed=200, dense_gzip=900, packed_gzip=190),
    quality_before=91.5,
    quality_after=90.25,
    zero_share=0.125,
    options={"name": "weight-unification"},
    history=[],
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the command asks for, in place of the job."""
    found: list[dict[str, Any]] = []

    def asked(_model: torch.nn.Module, data: Any, **options: Any) -> Compressed:
        found.append({"data": data, **options})
        return RESULT

    monkeypatch.setattr("pruning_client.pipeline.compress.compress", asked)
    return found


def test_options_become_settings(run: Run, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    blocks = ("--block", "2,4", "--zeros", "0.5", "--dense-layer", "fc", "--epochs", "3")
    training = ("--finetune-epochs", "1", "--seed", "4", "--train-batch-size", "17")
    outcome = run(*WORDS, *blocks, *training, "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    (call,) = calls
    assert call["method"] == WeightUnification(
        block=(2, 4), zeros=0.5, dense_layers=("fc",), epochs=3
    )
    settings = call["training"]
    assert (settings.epochs, settings.seed, settings.batch_size) == (1, 4, 17)
    assert call["out_dir"] == tmp_path
    assert len(call["data"][1]) == 1797


def test_the_result_is_printed_with_sizes_and_what_does_not_change(
    run: Run, calls: list[dict[str, Any]]
) -> None:
    outcome = run(*WORDS)
    for part in ("1000", "900", "200", "190", "91.50", "90.25", "12.5 %"):
        assert part in outcome.out
    assert "The latency does not change" in outcome.out
    assert calls[0]["method"].block == (1, 9)
    assert run(*WORDS, "--json").json["bytes"]["packed"] == 200


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--block", "wide"), "is neither"),
        (("--block", "0,4"), "has no weights"),
        (("--zeros", "1.0"), "no share below 1"),
        (("--recipe", "keypoints"), "no recipe 'keypoints'"),
    ],
)
def test_options_that_cannot_be_meant(
    run: Run, calls: list[dict[str, Any]], words: tuple[str, str], cause: str
) -> None:
    outcome = run(*WORDS, *words)
    assert (outcome.code, calls) == (2, [])
    assert cause in " ".join(outcome.err.replace("│", " ").split())
