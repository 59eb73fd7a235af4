"""The main job end to end in seconds: measure, train, serve, prune, verify, with real parts.

A real embedded service with its agent and trainer, real images, real measurements. The campaign is
short, so that its figures say nothing; the demo is for figures. The network takes long enough that
its latency is more than the runtime's overhead.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from pruning_client import (
    Campaign,
    Training,
    Verify,
    WGates,
    as_batches,
    embedded_service,
    finetune,
    load,
    prune,
)
from tests.support.tiny_networks import digits


class DigitsNet(nn.Module):
    """Four convolutions for 8x8 grey images, some tenths of a millisecond."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for c_in, c_out in ((1, 64), (64, 96), (96, 128), (128, 128)):
            layers += [
                nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(c_out),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_a_network_to_a_file_whose_latency_was_measured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DigitsNet()
    images, labels = digits()
    finetune(model, as_batches((images, labels), batch_size=64), Training(epochs=2, lr=0.05))
    with embedded_service(tmp_path / "service") as service:
        result = prune(
            model,
            (images, labels),
            budget="80%",
            target=service.device,
            method=WGates(epochs=2),
            training=Training(epochs=1),
            campaign=Campaign(architectures=16, repeats=3),
            verify=Verify(pause_seconds=0.5),
            client=service.client,
        )
        (run,) = service.client.runs()
        report = result.report
        delivered = [row.after for row in report.widths]
        # the dense network, or a file that was not taken, may have been measured after it
        readings = [
            reading
            for reading in report.verifications
            if reading.stage == "delivered" and reading.widths == delivered
        ]
        proof = service.client.measurement(readings[-1].measurement_id)
    assert run.report["pruned"] == report.model_dump(mode="json")["pruned"]
    # measured, by the agent, on the very bytes of the result; met is what was measured
    assert proof.model_sha256 == hashlib.sha256(result.file).hexdigest()
    assert proof.rounds
    assert result.met == (report.pruned.latency_ms <= report.budget_ms)
    assert report.budget_ms == pytest.approx(0.8 * report.dense.latency_ms)
    # predicted by a model that was trained on the campaign, its error beside the floor
    assert report.predictor.measurements >= 8
    assert report.predictor.mape > 0
    assert sum(result.widths.values()) < sum(row.before for row in report.widths)
    # the file computes what the module does, and the checkpoint goes back into the user's class
    folder = result.save(tmp_path / "out")
    session = onnxruntime.InferenceSession(result.file, providers=["CPUExecutionProvider"])
    x = torch.rand(3, 1, 8, 8)
    (answer,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = result.module(x)
        restored = load(DigitsNet(), folder / "pruned.safetensors").eval()(x)
    torch.testing.assert_close(torch.from_numpy(answer), expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(restored, expected, atol=1e-5, rtol=1e-4)
    assert {"report.json", "report.html"} <= {path.name for path in folder.iterdir()}
