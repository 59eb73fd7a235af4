"""``pruning-client``: the command line."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from latency_service.core.transport import ApiError
from latency_service.spaces.errors import SpaceError
from pruning_client.cli.options import Options, takes_options
from pruning_client.errors import PruningError

EXIT_CODES = (
    "Exit codes: 0 ok and the budget met, 1 not met as measured (or the device could not "
    "measure), 2 usage, "
    "3 not found or not ready, 4 authentication, 5 service unreachable, 6 invalid model or data, "
    "7 budget not reachable or nothing to do, 8 refused: slower than the dense network, or a "
    "predictor of another "
    "target."
)
NOT_MET = 1
MISSING = 3
UNAUTHORISED = 4
UNREACHABLE = 5
INVALID = 6
_BY_STATUS = {
    400: INVALID,
    401: UNAUTHORISED,
    403: UNAUTHORISED,
    404: MISSING,
    413: INVALID,
    422: INVALID,
}
_BUDGET = '"1.2ms", "800us", or "60%" of the dense network\'s measured latency'

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, epilog=EXIT_CODES
)
Resume = Annotated[
    bool, typer.Option(help="Go on where a stopped job of the same options left off in --out.")
]


@app.callback()
def root() -> None:
    """Prune CNNs to a latency budget that is proven by measuring on the device."""


@app.command(epilog=EXIT_CODES)
@takes_options
def prune(
    options: Options,
    budget: Annotated[str, typer.Option(help=f"{_BUDGET}.")],
    out: Annotated[Path, typer.Option(help="Folder for the report and the pruned network.")] = Path(
        "runs/prune"
    ),
    resume: Resume = False,
) -> None:
    """Prune a trained network until it meets the budget on the device, as measured."""
    from latency_service.core.client import Client
    from pruning_client.execution import distributed
    from pruning_client.pipeline.prune import prune as run
    from pruning_client.reports.terminal import Bars, make_console, print_result

    with distributed.opened():
        first = distributed.rank() == 0
        with (
            Client(options.server, options.token) as client,
            Bars(make_console(stderr=True), quiet=not first) as bars,
        ):
            result = run(
                **options.job(),
                budget_ms=budget,
                client=client,
                out_dir=out,
                progress=bars,
                command=_command(),
                resume=resume or distributed.restarted(),
            )
    if first and options.as_json:
        print(result.report.model_dump_json(indent=2))
    elif first:
        print_result(make_console(), result.report)
        for name in result.report.files.values():
            print(out / name)
    raise typer.Exit(0 if result.report.met else NOT_MET)


@app.command(epilog=EXIT_CODES)
@takes_options
def sweep(
    options: Options,
    budgets: Annotated[str, typer.Option(help=f"With commas between them, each {_BUDGET}.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the front, and a folder for each budget.")
    ] = Path("runs/sweep"),
    ray: Annotated[
        str | None, typer.Option(help='Address of a Ray cluster ("auto", "local", "ray://...").')
    ] = None,
    resume: Resume = False,
) -> None:
    """Prune for several budgets and draw the Pareto front of accuracy against measured latency."""
    from latency_service.core.client import Client
    from pruning_client.pipeline.ray import Cluster
    from pruning_client.pipeline.sweep import sweep as run
    from pruning_client.reports.terminal import Bars, make_console, print_front

    wanted = [budget.strip() for budget in budgets.split(",") if budget.strip()]
    elsewhere = None if ray is None else Cluster(ray, sys.argv[2:])
    with Client(options.server, options.token) as client, Bars(make_console(stderr=True)) as bars:
        front = run(
            **options.job(),
            budgets=wanted,
            client=client,
            out_dir=out,
            progress=bars,
            command=_command(),
            resume=resume,
            elsewhere=elsewhere,
        )
    print_front(make_console(), front, as_json=options.as_json)
    raise typer.Exit(
        0 if all(point.met for point in front.points) and not front.failures else NOT_MET
    )


@app.command(epilog=EXIT_CODES)
@takes_options
def fastest(
    options: Options,
    max_accuracy_drop: Annotated[
        float, typer.Option(min=0, help="Points of held-out accuracy that may be lost.")
    ],
    trials: Annotated[int, typer.Option(min=1, help="Budgets tried, by bisection.")] = 5,
    out: Annotated[
        Path, typer.Option(help="Folder for the result, and a folder for each trial.")
    ] = Path("runs/fastest"),
    resume: Resume = False,
) -> None:
    """Find the fastest network that loses at most so much accuracy: latency is the objective."""
    from latency_service.core.client import Client
    from pruning_client.pipeline.sweep import fastest as run
    from pruning_client.reports.terminal import Bars, make_console, print_front

    with Client(options.server, options.token) as client, Bars(make_console(stderr=True)) as bars:
        front = run(
            **options.job(),
            max_accuracy_drop=max_accuracy_drop,
            trials=trials,
            client=client,
            out_dir=out,
            progress=bars,
            command=_command(),
            resume=resume,
        )
    print_front(make_console(), front, as_json=options.as_json)


@app.command(epilog=EXIT_CODES)
def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Folders with a report.json, or ids of runs of the service.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write the comparison as a page that opens offline.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(envvar="LATENCY_SERVICE_URL", help="Address of the service.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="LATENCY_SERVICE_TOKEN", help="API token.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compare finished runs: method, budget, measured latency, accuracy, and the command of
    each.
    """
    from latency_service.core.client import Client
    from pruning_client.pipeline.sweep import compare as run
    from pruning_client.reports.terminal import make_console, print_front

    with Client(server, token) as client:
        front = run(runs, client)
    if out is not None:
        from pruning_client.reports.html import render_front

        out.write_text(render_front(front))
    print_front(make_console(), front, as_json=as_json)


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


def _command() -> str:
    """The command that reproduces a job, as a report shows it; it never holds a token."""
    return shlex.join(["pruning-client", *without_token(sys.argv[1:])])


def without_token(words: Sequence[str]) -> list[str]:
    """The words of a command line without ``--token VALUE`` and ``--token=VALUE``."""
    rest = iter(words)
    kept = []
    for word in rest:
        if word == "--token":
            next(rest, None)
        elif not word.startswith("--token="):
            kept.append(word)
    return kept


def _fail(message: str, cure: str, code: str, exit_code: int, as_json: bool) -> None:
    if as_json:
        print(
            json.dumps({"error": {"code": code, "message": message, "cure": cure}}), file=sys.stderr
        )
    else:
        console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
        console.print(message, style="red")
        console.print(cure)
    sys.exit(exit_code)
