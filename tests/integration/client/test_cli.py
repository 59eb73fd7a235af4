"""``pruning-client`` as a user types it: the result, and each error with its cause, its cure and its exit code."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pruning_client.cli import EXIT_CODES, main
from tests.integration.client.conftest import API_TOKEN, Stage
from tests.unit.client.nets import digits

MODEL = "tests.unit.client.nets:tiny_net"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as Parquet, like Hugging Face's files."""
    rows, labels = [], digits()[1].tolist()
    for number, pixels in enumerate(digits()[0][:, 0].numpy()):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        rows.append({"bytes": file.getvalue(), "path": f"{number}.png"})
    path = tmp_path_factory.mktemp("digits") / "train.parquet"
    pq.write_table(pa.table({"image": rows, "label": labels}), path)
    return path


class Cli:
    """Runs the command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["pruning-client", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self._capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    def prune(self, data: Path, *more: object) -> tuple[int, str, str]:
        return self("prune", "--model", MODEL, "--data", data, *more)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(capsys, monkeypatch)


@pytest.fixture
def online(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    monkeypatch.setenv("LATENCY_SERVICE_URL", stage.url)
    monkeypatch.setenv("LATENCY_SERVICE_TOKEN", API_TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return stage


def test_prune(cli: Cli, online: Stage, data: Path, tmp_path: Path) -> None:
    options = ("--budget", "60%", "--device", "board", "--out", tmp_path / "out", "--epochs", 1, "--count", 12)
    code, out, err = cli.prune(data, *options, "--finetune-epochs", 1, "--seed", 4)
    assert code == 0, err
    for expected in ("dense", "pruned", "budget", "met: measured", str(tmp_path / "out" / "report.html")):
        assert expected in out
    for phase in ("measure the dense network", "prune", "fine-tune", "verify the delivered file"):
        assert phase in err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["seed"] == 4
    assert report["command"].startswith(f"pruning-client prune --model {MODEL}")
    code, out, _ = cli.prune(
        data, *options, "--finetune-epochs", 0, "--method", "l1", "--allocator", "greedy", "--json"
    )
    assert (code, json.loads(out)["method"]) == (0, "l1")


@pytest.mark.parametrize(
    ("arguments", "code", "cause", "cure"),
    [
        (["--budget", "soon"], 2, "'soon' is no duration", "1.2ms"),
        (["--budget", "60%", "--device", "phone"], 3, "no device 'phone'", "latency-service agent"),
        (["--budget", "60%", "--no-campaign"], 3, "There is no predictor", "latency-service campaigns create --space"),
        (["--budget", "1s"], 7, "there is nothing to do", "smaller budget"),
        (["--budget", "60%", "--token", "another-token-0123456789"], 4, "token", ""),
        (["--budget", "60%", "--server", "http://127.0.0.1:9"], 5, "does not answer", "latency-service up"),
        (["--budget", "60%", "--model", "nowhere:net"], 6, "No module named 'nowhere'", "importable"),
        (["--budget", "60%", "--data", "/no/such/folder"], 6, "does not exist", "folder of class folders"),
        (["--budget", "60%", "--mean", "a,b"], 2, "numbers with commas", ""),
        (["--budget", "60%", "--mean", "0.5"], 6, "Only one of mean and std", "Give both"),
        (["--budget", "60%", "--method", "magic"], 2, "magic", "w-gates"),
    ],
)
def test_errors(
    cli: Cli, online: Stage, data: Path, arguments: list[str], code: int, cause: str, cure: str, tmp_path: Path
) -> None:
    found, out, err = cli.prune(data, *arguments, "--out", tmp_path / "out")
    flat = " ".join(err.replace("│", " ").split())
    assert found == code, flat
    assert cause in flat
    assert cure in flat
    assert out == ""


def test_errors_as_json(cli: Cli, online: Stage, data: Path, tmp_path: Path) -> None:
    code, _, err = cli.prune(data, "--budget", "soon", "--json", "--out", tmp_path)
    error = json.loads(err.strip().splitlines()[-1])["error"]
    assert code == 2
    assert error["code"] == "usage"
    assert "soon" in error["message"]
    assert "60%" in error["cure"]


def test_data_that_do_not_fit(cli: Cli, online: Stage, tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / label / "x.png")
    code, _, err = cli.prune(tmp_path, "--budget", "60%", "--out", tmp_path / "out")
    assert code == 6
    assert "Images of shape 3x8x8 do not fit" in " ".join(err.split())


def test_help_names_the_exit_codes(cli: Cli) -> None:
    code, out, _ = cli("prune", "--help")
    assert code == 0
    flat = " ".join(out.split())
    for part in EXIT_CODES.split(", "):
        assert part.rstrip(".") in flat
