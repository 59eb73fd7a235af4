"""Adaptive average pooling whose windows are unequal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.graph import proof
from pruning_client.graph.export import trace
from pruning_client.graph.pooling import PoolingBySlices
from pruning_client.graph.space import make_space

_CALLS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "one axis": (lambda x: F.adaptive_avg_pool1d(x, 3), (2, 4, 10)),
    "two axes": (lambda x: F.adaptive_avg_pool2d(x, 4), (2, 4, 14, 9)),
    "three axes": (lambda x: F.adaptive_avg_pool3d(x, (2, 3, 1)), (2, 4, 5, 7, 3)),
    "one axis as it is": (lambda x: F.adaptive_avg_pool2d(x, (None, 4)), (2, 4, 7, 9)),
    "larger than its input": (lambda x: F.adaptive_avg_pool2d(x, 7), (2, 4, 5, 3)),
    "without a batch": (lambda x: F.adaptive_avg_pool2d(x, 3), (4, 7, 8)),
    "by name": (lambda x: F.adaptive_avg_pool2d(input=x, output_size=(3, 3)), (2, 4, 7, 8)),
    "as a module": (nn.AdaptiveAvgPool2d(3), (2, 4, 7, 8)),
}


class _Pooled(nn.Module):
    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = pool
        self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.pool(F.relu(self.first(x))))


@pytest.mark.parametrize("kind", _CALLS)
def test_slices_pool_as_torch_does(kind: str) -> None:
    call, shape = _CALLS[kind]
    x = torch.randn(shape)
    with PoolingBySlices():
        found = call(x)
    torch.testing.assert_close(found, call(x))


def test_a_graph_holds_slices_in_place_of_positions() -> None:
    model = _Pooled(nn.AdaptiveAvgPool2d(4)).eval()
    x = torch.randn(2, 3, 14, 10)
    graph = trace(model, x)
    kinds = {node.op_type for node in graph.graph.node}
    assert {"Slice", "ReduceMean"} <= kinds
    assert not kinds & {"Gather", "GatherND", "Where"}
    np.testing.assert_allclose(proof.run_onnx(graph, [x]), proof.run_torch(model, [x]), atol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_equal_windows_and_many_stay_as_they_are(size: int) -> None:
    kinds = {node.op_type for node in trace(_pool_to(size), torch.randn(2, 3, 14, 14)).graph.node}
    assert "Slice" not in kinds


def _pool_to(size: int) -> nn.Module:
    return _Pooled(lambda x: F.adaptive_avg_pool2d(x, size)).eval()


def test_channels_before_and_behind_unequal_windows_are_pruned() -> None:
    traced = make_space(_pool_to(4), torch.randn(2, 3, 14, 10))
    assert [group.members for group in traced.space.groups] == [["first"]]
