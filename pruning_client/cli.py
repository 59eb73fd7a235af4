"""``pruning-client``: the command line."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from latency_service.devices.schemas import RuntimeConfig
from latency_service.spaces.slicing import SpaceError
from latency_service.transport import ApiError
from pruning_client.config import PruneConfig
from pruning_client.errors import PruningError

EXIT_CODES = (
    "Exit codes: 0 ok and the budget met, 1 not met as measured (or the device could not measure), 2 usage, "
    "3 not found or not ready, 4 authentication, 5 service unreachable, 6 invalid model or data, "
    "7 budget not reachable or nothing to do."
)
NOT_MET, MISSING, UNAUTHORISED, UNREACHABLE, INVALID = 1, 3, 4, 5, 6
_BY_STATUS = {400: INVALID, 401: UNAUTHORISED, 403: UNAUTHORISED, 404: MISSING, 413: INVALID, 422: INVALID}
_DEFAULTS = PruneConfig()

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, epilog=EXIT_CODES)


class MethodName(StrEnum):
    w_gates = "w-gates"
    free_gates = "free-gates"
    l1 = "l1"
    uniform = "uniform"


class LossOption(StrEnum):
    dual = "dual"
    abs = "abs"
    log1p = "log1p"


class AllocatorOption(StrEnum):
    threshold = "threshold"
    uniform = "uniform"
    greedy = "greedy"


class SourceOption(StrEnum):
    local = "local"
    served = "served"


@app.callback()
def root() -> None:
    """Prune CNNs to a latency budget that is proven by measuring on the device."""


@app.command(epilog=EXIT_CODES)
def prune(
    model: Annotated[str, typer.Option(help="package.module:function that returns the trained torch module.")],
    data: Annotated[Path, typer.Option(help="Folder of class folders, Parquet file, or folder of Parquet files.")],
    budget: Annotated[str, typer.Option(help='"1.2ms", "800us", or "60%" of the dense network\'s measured latency.')],
    device: Annotated[str | None, typer.Option(help="By default the only device.", show_default=False)] = None,
    weights: Annotated[Path | None, typer.Option(help="Safetensors file with the module's state_dict.")] = None,
    val_data: Annotated[Path | None, typer.Option(help="Held-out data; by default a fifth of the data.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report and the pruned network.")] = Path("runs/prune"),
    method: Annotated[MethodName, typer.Option(help="How to decide which channels stay.")] = MethodName.w_gates,
    loss: Annotated[LossOption, typer.Option(help="How the latency enters the loss of gates.")] = LossOption.dual,
    allocator: Annotated[
        AllocatorOption, typer.Option(help="How scores become widths, for l1.")
    ] = AllocatorOption.threshold,
    epochs: Annotated[int, typer.Option(min=1, help="With gates.")] = _DEFAULTS.gates.epochs,
    finetune_epochs: Annotated[int, typer.Option(min=0, help="After removal.")] = _DEFAULTS.finetune.epochs,
    batch_size: Annotated[int, typer.Option(min=1)] = _DEFAULTS.batch_size,
    image_size: Annotated[int | None, typer.Option(min=1, help="Scale and crop images to this square.")] = None,
    mean: Annotated[str | None, typer.Option(help="Per channel, comma-separated, of images in 0..1.")] = None,
    std: Annotated[str | None, typer.Option(help="Per channel, comma-separated.")] = None,
    predictor: Annotated[SourceOption, typer.Option(help="Where the predictor runs.")] = SourceOption.local,
    provider: Annotated[str, typer.Option(help="ONNX Runtime execution provider.")] = _DEFAULTS.runtime.provider,
    threads: Annotated[int, typer.Option(min=1, help="Intra-op threads of the target.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images per run on the target.")] = 1,
    campaign: Annotated[bool, typer.Option(help="Measure and train a predictor when there is none.")] = True,
    count: Annotated[int, typer.Option(min=8, help="Architectures that such a campaign samples.")] = 120,
    seed: Annotated[int, typer.Option()] = 0,
    server: Annotated[str | None, typer.Option(envvar="LATENCY_SERVICE_URL", help="Address of the service.")] = None,
    token: Annotated[str | None, typer.Option(envvar="LATENCY_SERVICE_TOKEN", help="API token.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a table.")] = False,
) -> None:
    """Prune a trained network until it meets the budget on the device, as measured."""
    from pruning_client.artefacts import load_model
    from pruning_client.client import Client
    from pruning_client.console import Bars, make_console, print_result
    from pruning_client.data import as_batches
    from pruning_client.pruning import prune as run

    normalise = {"mean": _numbers("--mean", mean), "std": _numbers("--std", std)}

    def batches(path: Path | None) -> object:
        return path and as_batches(path, batch_size=batch_size, image_size=image_size, **normalise)

    config = PruneConfig(
        method=method.value, allocator=allocator.value, predictor=predictor.value, seed=seed, batch_size=batch_size,
        runtime=RuntimeConfig(provider=provider, intra_threads=threads, batch=batch),
        gates=replace(_DEFAULTS.gates, epochs=epochs, loss=loss.value),
        finetune=replace(_DEFAULTS.finetune, epochs=finetune_epochs),
        campaign=replace(_DEFAULTS.campaign, allowed=campaign, count=count),
    )  # fmt: skip
    with Client(server, token) as client, Bars(make_console(stderr=True)) as bars:
        result = run(
            load_model(model, weights), batches(data), budget_ms=budget, device=device, val_data=batches(val_data),
            client=client, out_dir=out, progress=bars, config=config,
            command=shlex.join(["pruning-client", *sys.argv[1:]]),
        )  # fmt: skip
    if as_json:
        print(result.report.model_dump_json(indent=2))
    else:
        print_result(make_console(), result.report)
        for name in result.report.files.values():
            print(out / name)
    raise typer.Exit(0 if result.report.met else NOT_MET)


def main() -> None:
    """Run the command line; errors end with their cause, their cure and their exit code."""
    as_json = "--json" in sys.argv
    try:
        app()
    except PruningError as error:
        _fail(error.message, error.cure, error.code, error.exit_code, as_json)
    except SpaceError as error:
        _fail(str(error), "", "invalid_model", INVALID, as_json)
    except ApiError as error:
        _fail(error.message, error.cure, error.code, exit_code_of(error), as_json)


def exit_code_of(error: ApiError) -> int:
    """The exit code that an answer of the service, or none, stands for."""
    if error.code == "unreachable":
        return UNREACHABLE
    if error.code == "not_ready":
        return MISSING
    return _BY_STATUS.get(error.status, NOT_MET)


def _fail(message: str, cure: str, code: str, exit_code: int, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": {"code": code, "message": message, "cure": cure}}), file=sys.stderr)
    else:
        console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
        console.print(message, style="red")
        console.print(cure)
    sys.exit(exit_code)


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: write numbers with commas between them", param_hint=option) from error
