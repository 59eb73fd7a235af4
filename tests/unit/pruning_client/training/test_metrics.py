"""Measures of quality, against plain formulas."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, r2_score

from pruning_client.errors import DataError
from pruning_client.training.metrics import Accuracy, Determination, MeanIou, MultiLabelF1
from pruning_client.training.recipes import multi_label


def in_parts(metric: object, outputs: torch.Tensor, target: torch.Tensor) -> float:
    for at in range(0, len(outputs), 7):
        metric.update(outputs[at : at + 7], target[at : at + 7])  # type: ignore[attr-defined]
    return float(metric.value())  # type: ignore[attr-defined]


def test_accuracy_counts_what_has_a_class() -> None:
    scores = torch.eye(3)[torch.tensor([0, 1, 2, 0])]
    assert in_parts(Accuracy(), scores, torch.tensor([0, 1, 1, 255])) == pytest.approx(200 / 3)
    assert in_parts(Accuracy(), scores, torch.tensor([[0], [1], [2], [0]])) == 100
    assert Accuracy().value() == 0
    with pytest.raises(DataError, match=r"a tensor \[4, 3\] and labels that are a tensor \[4, 2\]"):
        Accuracy().update(scores, torch.zeros(4, 2, dtype=torch.int64))


def test_mean_intersection_over_union() -> None:
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(20, 4, 5, 5, generator=draw)
    labels = torch.randint(0, 3, (20, 5, 5), generator=draw)
    expected = jaccard_score(labels.flatten(), scores.argmax(1).flatten(), average="macro")
    assert in_parts(MeanIou(), scores, labels) == pytest.approx(100 * expected)
    ignored = labels.clone()
    ignored[:, 0] = 255
    kept = jaccard_score(
        labels[:, 1:].flatten(), scores.argmax(1)[:, 1:].flatten(), average="macro"
    )
    assert in_parts(MeanIou(), scores, ignored) == pytest.approx(100 * kept)


def test_several_labels() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 6, generator=draw)
    target = (torch.rand(20, 6, generator=draw) > 0.7).float()
    expected = f1_score(target.flatten(), (logits > 0).flatten())
    assert in_parts(MultiLabelF1(), logits, target) == pytest.approx(100 * expected)


def test_determination() -> None:
    draw = torch.Generator().manual_seed(0)
    target = torch.randn(30, 4, generator=draw) * torch.tensor([1.0, 5, 20, 100])
    outputs = target + torch.randn(30, 4, generator=draw)
    expected = r2_score(target, outputs, multioutput="variance_weighted")
    assert in_parts(Determination(), outputs, target) == pytest.approx(100 * expected)
    mean = target.mean(0).expand_as(target)
    assert in_parts(Determination(), mean, target) == pytest.approx(0, abs=1e-3)
    with pytest.raises(DataError, match="differ in shape"):
        Determination().update(outputs, target[:, :3])


@pytest.mark.parametrize("value", [255.0, -1.0])
def test_multi_label_targets_lie_between_0_and_1(value: float) -> None:
    target = torch.zeros(4, 3)
    target[1, 1] = value
    with pytest.raises(DataError, match=f"between .*{value:g}"):
        MultiLabelF1().update(torch.randn(4, 3), target)
    with pytest.raises(DataError, match="Multi-label targets"):
        multi_label().loss(torch.randn(4, 3), target)


def test_probabilities_are_no_logits() -> None:
    logits = torch.randn(40, 3)
    target = (logits > 0).float()
    assert in_parts(MultiLabelF1(), logits, target) == 100
    with pytest.raises(DataError, match="ends in a sigmoid"):
        in_parts(MultiLabelF1(), logits.sigmoid(), target)
