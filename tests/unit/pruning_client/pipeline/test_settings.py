"""The call of `prune` that a report shows is the call that was made."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import nn

import pruning_client
from pruning_client import (
    GDP,
    SCOP,
    Campaign,
    FreeGates,
    Magnitude,
    MostMacs,
    Quantisation,
    Target,
    Training,
    Verify,
    WGates,
    recipes,
)
from pruning_client.errors import DataError, ModelError
from pruning_client.pipeline.prune import job_settings
from pruning_client.pipeline.settings import JobRequest, JobSettings


def read(call: str) -> tuple[JobSettings, str]:
    """Settings and budget of a call, read as a user would run it."""

    def prune(
        _model: None, _data: None, *, budget: str, target: Any = None, **given: Any
    ) -> tuple[JobSettings, str]:
        settings = {
            "method": WGates(),
            **dict.fromkeys(("training", "verify", "campaign", "quantisation")),
        }
        return job_settings(target, **{**settings, **given}), budget

    names = {name: getattr(pruning_client, name) for name in pruning_client.__all__}
    names |= {"prune": prune, "model": None, "data": None}
    found: tuple[JobSettings, str] = eval(call, names)  # noqa: S307 a call of this test's own
    return found


@pytest.mark.parametrize(
    "settings",
    [
        JobSettings(),
        JobSettings(targets=(Target(device='it\'s a "board"', threads=2, precision="int8"),)),
        JobSettings(
            targets=(Target(precision="int8"),),
            quantisation=Quantisation(calibration="entropy", float_layers=("conv", "fc")),
        ),
        JobSettings(targets=(Target(), Target(device="phone"), Target(device="phone", batch=8))),
        JobSettings(method=FreeGates(epochs=3, loss="log1p")),
        JobSettings(method=GDP(epsilon=0.2, blocks=True)),
        JobSettings(method=SCOP(allocator="greedy", knockoffs="gaussian")),
        JobSettings(method=Magnitude(criterion="bn-scale", allocator="uniform")),
        JobSettings(method=MostMacs(), training=Training(epochs=0, lr=0.5, seed=3)),
        JobSettings(
            campaign=Campaign(allowed=False, architectures=9, predictor_id="p1", source="served"),
            verify=Verify(slack=0.05),
        ),
    ],
    ids=lambda settings: settings.as_call("60%"),
)
def test_the_call_gives_the_same_settings(settings: JobSettings) -> None:
    assert read(settings.as_call("60%")) == (settings, "60%")


def test_an_option_that_is_a_function_is_named_by_its_type() -> None:
    settings = JobSettings(method=SCOP(knockoffs=lambda inputs, _random: inputs))
    method = json.loads(json.dumps(settings.as_plain()))["method"]
    assert method == {"name": "scop", **asdict(SCOP(knockoffs="function"))}  # type: ignore[arg-type]


def test_defaults_are_left_out() -> None:
    assert JobSettings().as_call("1.2ms") == "prune(model, data, budget='1.2ms')"


def test_a_request_takes_the_network_out_of_its_wrapper() -> None:
    model = nn.Linear(4, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch itself
        compiled = torch.compile(model)
    for wrapped in (nn.DataParallel(model), compiled):
        assert JobRequest(model=wrapped, data=None).model is model
    with pytest.raises(ModelError, match="is a class"):
        JobRequest(model=nn.Linear, data=None)  # type: ignore[arg-type]


def test_labels_of_a_loss_of_classes_are_checked_whatever_measures_quality() -> None:
    model = nn.Conv2d(1, 3, 3, padding=1)
    masks = torch.zeros(40, 8, 8, dtype=torch.int64)
    masks[30, 0, 0] = 7
    training = Training(recipe=recipes.segmentation())
    settings = JobSettings(training=training)
    masks[0] = 255
    request = JobRequest(model=model, data=(torch.rand(40, 1, 8, 8), masks), settings=settings)
    with pytest.raises(DataError, match="Labels from 0 to 7 do not fit the model's 3 classes"):
        request.batches()
