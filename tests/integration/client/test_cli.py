"""``pruning-client`` as a user types it: the result, and each error with its cause, its cure and
its exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from pruning_client.cli.main import EXIT_CODES, main
from tests.support.boards import ServedBoard
from tests.support.settings import API_TOKEN

MODEL = "tests.support.tiny_networks:tiny_net"


@pytest.fixture
def data(digit_files: Path) -> Path:
    return digit_files


class Cli:
    """Runs the command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

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
def online(served: ServedBoard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ServedBoard:
    monkeypatch.setenv("LATENCY_SERVICE_URL", served.url)
    monkeypatch.setenv("LATENCY_SERVICE_TOKEN", API_TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return served


def test_prune(cli: Cli, online: ServedBoard, data: Path, tmp_path: Path) -> None:
    options = (
        "--budget",
        "60%",
        "--target",
        "board",
        "--out",
        tmp_path / "out",
        "--architectures",
        12,
    )
    quick = ("--epochs", 1, "--finetune-epochs", 1, "--seed", 4)
    code, out, err = cli.prune(data, *options, *quick, "--token", API_TOKEN)
    assert code == 0, err
    # the token is nowhere: not in a file, in what was said, or in the recorded run
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) >= 4
    recorded = [online.client.run(run.id).model_dump_json() for run in online.client.runs()]
    assert recorded
    said = [out.encode(), err.encode(), *(run.encode() for run in recorded)]
    assert not any(API_TOKEN.encode() in content for content in [*written, *said])
    for expected in (
        "dense",
        "pruned",
        "Budget",
        "met: measured",
        str(tmp_path / "out" / "report.html"),
    ):
        assert expected in out
    for phase in ("measure the dense network", "prune", "fine-tune", "verify the delivered file"):
        assert phase in err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["seed"] == 4
    assert report["command"].startswith(f"pruning-client prune --budget 60% --model {MODEL}")
    code, out, _ = cli.prune(
        data, *options, "--finetune-epochs", 0, "--method", "l1", "--allocator", "greedy", "--json"
    )
    assert (code, json.loads(out)["method"]) == (0, "l1")


@pytest.mark.parametrize(
    ("arguments", "code", "cause", "cure"),
    [
        (["--budget", "soon"], 2, "'soon' is not a valid duration", "1.2ms"),
        (["--budget", "60%", "--target", "phone"], 3, "no device 'phone'", "latency-service agent"),
        (
            ["--budget", "60%", "--no-campaign"],
            3,
            "There is no predictor",
            "latency-service campaigns create --space",
        ),
        (["--budget", "1s"], 7, "there is nothing to do", "smaller budget"),
        (["--budget", "60%", "--token", "another-token-0123456789"], 4, "token", ""),
        (
            ["--budget", "60%", "--server", "http://127.0.0.1:9"],
            5,
            "does not answer",
            "latency-service up",
        ),
        (
            ["--budget", "60%", "--model", "nowhere:net"],
            6,
            "No module named 'nowhere'",
            "can be imported from this folder",
        ),
        (
            ["--budget", "60%", "--data", "/no/such/folder"],
            6,
            "does not exist",
            "folder of class folders",
        ),
        (["--budget", "60%", "--mean", "a,b"], 2, "comma-separated list of numbers", ""),
        (["--budget", "60%", "--mean", "0.5"], 6, "Only one of mean and std", "Give both"),
        (["--budget", "60%", "--method", "magic"], 2, "magic", "w-gates"),
    ],
)
def test_errors(
    cli: Cli,
    online: ServedBoard,
    data: Path,
    arguments: list[str],
    code: int,
    cause: str,
    cure: str,
    tmp_path: Path,
) -> None:
    found, out, err = cli.prune(data, *arguments, "--out", tmp_path / "out")
    flat = " ".join(err.replace("│", " ").split())
    assert found == code, flat
    assert cause in flat
    assert cure in flat
    assert out == ""


def test_errors_as_json(cli: Cli, online: ServedBoard, data: Path, tmp_path: Path) -> None:
    code, _, err = cli.prune(data, "--budget", "soon", "--json", "--out", tmp_path)
    error = json.loads(err.strip().splitlines()[-1])["error"]
    assert code == 2
    assert error["code"] == "usage"
    assert "soon" in error["message"]
    assert "60%" in error["cure"]


def test_data_that_do_not_fit(cli: Cli, online: ServedBoard, tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8), "red").save(tmp_path / label / "x.png")
    code, _, err = cli.prune(tmp_path, "--budget", "60%", "--out", tmp_path / "out")
    assert code == 6
    assert "Images of shape 3x8x8 do not fit" in " ".join(err.split())


def test_help_names_the_exit_codes(cli: Cli) -> None:
    code, out, _ = cli("prune", "--help")
    assert code == 0
    flat = " ".join(out.split())
    for part in EXIT_CODES.split(", "):
        assert part.rstrip(".") in flat


def test_sweep_compare_and_fastest(
    cli: Cli, online: ServedBoard, data: Path, tmp_path: Path
) -> None:
    common = (
        "--model",
        MODEL,
        "--data",
        data,
        "--method",
        "l1",
        "--architectures",
        12,
        "--finetune-epochs",
        1,
    )
    sweep = ("sweep", *common, "--budgets", "75%, 50%,1us", "--out", tmp_path / "front", "--json")
    code, out, err = cli(*sweep)
    front = json.loads(out)
    assert code == 1, err  # one budget cannot be had
    assert list(front["failures"]) == ["1us"]
    assert [point["budget"] for point in front["points"]] == ["50%", "75%"]
    assert front["points"][0]["latency_ms"] < front["points"][1]["latency_ms"] < front["dense_ms"]
    folders = [tmp_path / "front" / name for name in ("75pct", "50pct")]
    assert all((folder / "pruned.onnx").exists() for folder in folders)
    assert "<h2>The front</h2>" in (tmp_path / "front" / "front.html").read_text()
    readings = [
        {(one["stage"], one["measurement_id"]) for one in report["verifications"]}
        for report in (json.loads((folder / "report.json").read_text()) for folder in folders)
    ]
    # the jobs share the dense network's readings; what is finished is not run again
    assert len([stage for stage, _ in set.intersection(*readings) if stage == "dense"]) == 3
    assert online.board.jobs.count("verify") == len(set.union(*readings))
    before = len(online.board.jobs)
    code, out, _ = cli(*sweep, "--resume")
    assert json.loads(out)["points"] == front["points"]
    assert len(online.board.jobs) == before, "readings of the dense network are kept"

    code, out, _ = cli(
        "compare", *folders, front["points"][0]["run_id"], "--out", tmp_path / "compare.html"
    )
    assert code == 0
    assert out.count("50%") == 2
    assert "Accuracy against measured latency" in (tmp_path / "compare.html").read_text()
    assert cli("compare", tmp_path)[0] == 6

    fastest = ("fastest", *common, "--trials", 2, "--json")
    code, out, err = cli(*fastest, "--max-accuracy-drop", 100, "--out", tmp_path / "fast")
    assert code == 0, err
    found = json.loads(out)
    assert found["chosen"] == min(found["points"], key=lambda p: p["latency_ms"])["run_id"]
    assert json.loads((tmp_path / "fast" / "report.json").read_text())["run_id"] == found["chosen"]


@pytest.mark.long
def test_sweep_on_a_local_ray(
    cli: Cli, online: ServedBoard, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "RAY_worker_niceness", "0"
    )  # it would wait for whatever else this machine is busy with
    options = (
        "--model",
        MODEL,
        "--data",
        data,
        "--method",
        "l1",
        "--architectures",
        12,
        "--finetune-epochs",
        1,
    )
    code, out, err = cli(
        "sweep", *options, "--budgets", "60%,1us", "--out", tmp_path, "--ray", "local", "--json"
    )
    assert code == 1, err  # one budget cannot be had
    front = json.loads(out)
    assert [point["budget"] for point in front["points"]] == ["60%"], front["failures"]
    assert "below what this network can reach" in front["failures"]["1us"]
    assert (tmp_path / "60pct" / "pruned.onnx").exists()
    assert "<h2>The front</h2>" in (tmp_path / "front.html").read_text()


@pytest.mark.slow
def test_two_processes_and_a_killed_one(online: ServedBoard, data: Path, tmp_path: Path) -> None:
    """Killed by the kernel in the middle of training, the job goes on from its checkpoint to the
    same file.
    """

    def start(out: Path) -> subprocess.Popen[str]:
        options = (
            "--epochs",
            "4",
            "--finetune-epochs",
            "1",
            "--architectures",
            "12",
            "--budget",
            "60%",
            "--torch-device",
            "cpu",
        )
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "--max-restarts",
            "1",
        ]
        job = [
            "-m",
            "pruning_client",
            "prune",
            "--model",
            MODEL,
            "--data",
            str(data),
            *options,
            "--out",
            str(out),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": "0"}
        root = Path(__file__).parents[3]
        return subprocess.Popen(
            [*command, "--standalone", *job],
            cwd=root,
            env=environment,
            text=True,
            stderr=subprocess.PIPE,
        )

    with start(tmp_path / "whole") as whole:
        error = whole.communicate(timeout=240)[1]
    assert whole.returncode == 0, error[-3000:]
    with start(tmp_path / "killed") as job:
        while not (tmp_path / "killed" / "checkpoint" / "prune.safetensors").exists():
            assert job.poll() is None
            time.sleep(0.02)
        (second,) = (
            p for p in psutil.Process(job.pid).children() if p.environ().get("RANK") == "1"
        )
        second.kill()
        error = job.communicate(timeout=240)[1]
    assert job.returncode == 0, error[-3000:]
    files = [(tmp_path / name / "pruned.onnx").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]
    assert (
        len(online.client.runs()) == 2
    )  # one for each job: the first process alone talks to the service
