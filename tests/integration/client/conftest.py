"""A real service on a real socket, with a device whose truth is known and a trainer that publishes
it.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import structlog
import uvicorn
from PIL import Image

from latency_service.agent.testing import bearer
from latency_service.app import create_app
from latency_service.settings import Settings
from latency_service.training import pipeline as training
from latency_service.training import worker
from pruning_client import Client, Training, as_batches, finetune
from tests.support.boards import Board, ServedBoard, publish_the_truth
from tests.support.databases import Clone
from tests.support.judging import sharing
from tests.support.settings import API_TOKEN
from tests.support.tiny_networks import TinyNet, digits, tiny_net
from tests.support.torch_fixtures import one_thread, operators_read_once

__all__ = ["one_thread", "operators_read_once"]


@pytest.fixture(scope="module")
def trained() -> TinyNet:
    """A network that knows its digits."""
    model = tiny_net()
    finetune(model, as_batches(digits(), batch_size=64), Training(epochs=4, lr=0.1))
    return model


@pytest.fixture
def settings(clone_sqlite: Clone, tmp_path: Path) -> Settings:
    return Settings(
        database_url=clone_sqlite(True),
        data_dir=tmp_path / "service",
        api_token=API_TOKEN,
        lease_check_seconds=0.02,
        poll_seconds=0.2,
        token_cache_seconds=0.0,
        still_seconds=0.0,
        presence_seconds=0.0,
    )


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(sharing(create_app(settings)), port=0, log_level="error", lifespan="on")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service did not start"
    (listener,) = server.servers[0].sockets
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def served(
    url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ServedBoard]:
    monkeypatch.setattr(training, "train", publish_the_truth)
    # a thread of this process must not hold on to the standard error of one test
    monkeypatch.setattr(worker, "log", structlog.wrap_logger(structlog.ReturnLogger()))
    monkeypatch.setattr("latency_service.core.client.connection.POLL_SECONDS", 0.02)
    stop = threading.Event()
    with httpx2.Client(base_url=url, headers=bearer(API_TOKEN), timeout=60) as http:
        board = Board(http, str(http.post("/v1/enrolments").json()["token"]))
        trainer = threading.Thread(target=worker.run_trainer, args=(settings, stop))
        trainer.start()
        with board.at_work(), Client(url, API_TOKEN, cache_dir=tmp_path / "cache") as client:
            yield ServedBoard(url=url, client=client, board=board)
        stop.set()
        trainer.join()


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as Parquet, like Hugging Face's files."""
    rows = []
    labels = digits()[1].tolist()
    for number, pixels in enumerate(digits()[0][:, 0].numpy()):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        rows.append({"bytes": file.getvalue(), "path": f"{number}.png"})
    path = tmp_path_factory.mktemp("digits") / "train.parquet"
    pq.write_table(pa.table({"image": rows, "label": labels}), path)
    return path
