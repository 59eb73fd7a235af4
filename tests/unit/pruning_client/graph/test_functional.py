"""Exports without a second trace: where there is none, and that the graph computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F
from torch.onnx._internal.fx import passes

from pruning_client.graph.export import trace

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """What most networks are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.plain_norm = nn.BatchNorm2d(4, affine=False)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm(self.conv(x)))
        z = F.hardswish(self.plain_norm(y), inplace=True)
        z += y
        z = F.adaptive_avg_pool2d(self.drop(z), 4)
        return self.head(self.drop(F.adaptive_avg_pool2d(z, 1)).flatten(1))


class ReadBefore(nn.Module):
    """A tensor is read before and after something writes to it."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        before = y * 3
        y += 1
        y.relu_()
        return before + y


class WritesASize(nn.Module):
    """What is written depends on the size of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        y *= x.shape[0]
        return y


class WritesToItsInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu_() + x


class WritesToAView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        first, _ = y.chunk(2, dim=2)
        first.relu_()
        return y


class WritesUnderAView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        flat = y.flatten(1)
        y.relu_()
        return flat


class WritesToItsOutput(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x * 2
        y.relu_()
        return y, x + y


class UnequalWindows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 3)


class OwnStatistics(nn.Module):
    """A norm by the batch's own statistics, in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, training=True)


@pytest.fixture
def traced_again(monkeypatch: pytest.MonkeyPatch) -> list[ExportedProgram]:
    """The programs that are traced a second time."""
    programs: list[ExportedProgram] = []
    original = ExportedProgram.run_decompositions

    def run(program: ExportedProgram, *args: Any) -> ExportedProgram:
        programs.append(program)
        return original(program, *args)

    monkeypatch.setattr(ExportedProgram, "run_decompositions", run)
    return programs


def check(model: nn.Module) -> None:
    """The graph's outputs equal those of the module."""
    model.eval()
    session = onnxruntime.InferenceSession(
        trace(model, IMAGES).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for batch in (IMAGES, torch.cat([IMAGES, -IMAGES, IMAGES])):
        found = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
        with torch.no_grad():
            expected = model(batch.clone())
        outputs = expected if isinstance(expected, tuple) else (expected,)
        for one, other in zip(found, outputs, strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [Block, ReadBefore, WritesToItsOutput, UnequalWindows])
def test_usual_networks_are_traced_once(
    model: type[nn.Module], traced_again: list[ExportedProgram]
) -> None:
    check(model())
    assert not traced_again


@pytest.mark.parametrize(
    "model",
    [WritesASize, WritesToItsInput, WritesToAView, WritesUnderAView, OwnStatistics],
)
def test_others_are_traced_again(
    model: type[nn.Module], traced_again: list[ExportedProgram]
) -> None:
    check(model())
    assert traced_again


class TimesWholeNumbers(nn.Module):
    """Whole numbers that become real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.arange(8))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.count


class TimesItsBatch(nn.Module):
    """The size of the batch as a number among tensors."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * x.shape[0] + x.size(0)) / x.size(0) - x.shape[0]


@pytest.fixture
def looked_through(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The graphs in which the exporter looks for types to promote."""
    graphs: list[object] = []
    original = passes.InsertTypePromotion.run

    def run(one: Any, *args: Any) -> Any:
        graphs.append(one)
        return original(one, *args)

    monkeypatch.setattr(passes.InsertTypePromotion, "run", run)
    return graphs


def test_where_all_numbers_are_of_one_type_nothing_is_promoted(
    looked_through: list[object], traced_again: list[ExportedProgram]
) -> None:
    check(Block())
    assert not looked_through
    for model in (TimesWholeNumbers(), TimesItsBatch()):
        looked_through.clear()
        check(model)
        assert looked_through
    assert not traced_again
