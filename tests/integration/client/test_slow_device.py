"""A whole job on a device a hundred times slower than this machine, by the device's own clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from latency_service.agent import main
from latency_service.agent.measuring.profiler import Profiler
from latency_service.devices import presence
from latency_service.settings import Settings
from latency_service.training import worker
from pruning_client import Client, prune
from pruning_client.methods.magnitude import Magnitude
from pruning_client.service.campaign import Campaign
from pruning_client.training.config import Training
from tests.support.settings import API_TOKEN
from tests.support.slow_device import SlowDevice
from tests.support.tiny_networks import TinyNet, digits

SLOWNESS = 100


@pytest.fixture
def slow_device(
    url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Client]:
    """A service with its trainer, and the slow device's own agent."""
    monkeypatch.setattr(
        main, "Profiler", lambda folder: Profiler(folder, SlowDevice(slowness=SLOWNESS))
    )
    # the agent stops when its request for work has been answered
    monkeypatch.setattr(presence, "SHORTEST_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(worker, "log", structlog.wrap_logger(structlog.ReturnLogger()))
    stop = threading.Event()
    with Client(url, API_TOKEN, cache_dir=tmp_path / "cache") as client:
        token = client.create_enrolment().token
        agent = threading.Thread(
            target=main.run_agent,
            args=(url, token),
            kwargs={"name": "board", "state_dir": tmp_path / "agent", "stop": stop},
        )
        trainer = threading.Thread(target=worker.run_trainer, args=(settings, stop))
        for thread in (agent, trainer):
            thread.start()
        while not client.devices():
            assert agent.is_alive(), "the agent did not register"
            time.sleep(0.05)
        yield client
        stop.set()
        for thread in (agent, trainer):
            thread.join()


@pytest.mark.long
def test_a_device_a_hundred_times_slower_keeps_a_budget(slow_device: Client) -> None:
    result = prune(
        TinyNet(64),
        digits(),
        budget="60%",
        target="board",
        method=Magnitude(),
        training=Training(epochs=1, batch_size=64),
        campaign=Campaign(architectures=16, repeats=2, timeout_seconds=300),
        client=slow_device,
    )
    report = result.report
    assert report.outcome == "met"
    assert report.pruned.latency_ms <= report.budget_ms
    # a reading takes its time by the device's clock, and there was time for enough of them
    assert report.verification.readings >= 7
    assert report.verification.seconds > 100
