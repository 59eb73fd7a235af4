"""A file in ONNX Runtime answers as the module that it was exported from."""

from __future__ import annotations

import torch

from pruning_client.data.sources import as_batches
from pruning_client.graph.export import trace
from pruning_client.graph.onnx_module import OnnxModule
from pruning_client.training.metrics import accuracy
from tests.support.tiny_networks import Regressor, digits, tiny_net


def as_file(model: torch.nn.Module) -> OnnxModule:
    example = torch.rand(2, 1, 8, 8)
    return OnnxModule(trace(model, example).SerializeToString(), model.eval(), (example,))


def test_a_classifier_has_the_same_accuracy() -> None:
    model = tiny_net().eval()
    data = as_batches(digits())
    assert accuracy(as_file(model), data) == accuracy(model, data)


def test_outputs_have_the_form_of_the_network_s() -> None:
    model = Regressor().eval()
    images = torch.rand(5, 1, 8, 8)
    found, expected = as_file(model)(images), model(images)
    assert list(found) == list(expected)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_what_evaluates_networks_can_treat_it_as_one() -> None:
    file = as_file(tiny_net())
    assert next(file.parameters()).device.type == "cpu"
    assert not file.training
    assert file.to("cpu").eval()(torch.rand(3, 1, 8, 8).requires_grad_()).shape == (3, 10)
