"""``pruning-client compare-methods``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latency_service.core.terminal.output import Output
from pruning_client.cli import exits
from pruning_client.cli.command import command_line
from pruning_client.cli.options import Options, Resume
from pruning_client.cli.prune import BUDGET_FORMS
from pruning_client.cli.ray_options import RayAddress, RayCpus, RayGpus, cluster_at
from pruning_client.errors import UsageError

if TYPE_CHECKING:
    from pruning_client.methods.base import Method

#: Stands for every method.
ALL = "all"


def compare_methods(
    options: Options,
    budget: Annotated[
        list[str],
        typer.Option(
            help=f"Latency budget: {BUDGET_FORMS}. Several are comma-separated, or the option is "
            "repeated."
        ),
    ],
    output: Output,
    methods: Annotated[
        str,
        typer.Option(
            help=f'"{ALL}" (except those that prune a wider network), or names of methods, '
            "comma-separated."
        ),
    ] = ALL,
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of repetitions, with the seeds from --seed on.")
    ] = 1,
    out: Annotated[
        Path, typer.Option(help="Folder for the comparison, with a folder for each result.")
    ] = Path("runs/methods"),
    ray: RayAddress = None,
    ray_cpus: RayCpus = 1.0,
    ray_gpus: RayGpus = None,
    resume: Resume = False,
) -> None:
    """Compare pruning methods on a network: accuracy at equal measured latency and equal training.

    A cluster trains, and pauses while files are measured.
    Options of methods, such as --epochs, apply to every method that has them.
    """
    from pruning_client.pipeline.contest.contest import contest_request
    from pruning_client.reports.contest_terminal import columns, print_contest
    from pruning_client.reports.progress_bars import ProgressBars
    from pruning_client.service.connection import announce, connected

    own = options.method_options()
    chosen = methods_from(methods, own)
    budgets = [one for given in budget for one in _parts(given)]
    words = ["compare-methods", "--methods", methods, "--seeds", str(seeds)]
    without_methods: dict[str, Any] = dict.fromkeys(own)
    request = replace(
        replace(options, **without_methods).request(),
        command_of=lambda given: command_line([*words, "--budget", given], options.changed()),
    )
    with (
        ProgressBars() as bars,
        connected(None, announce, url=options.server, token=options.token) as client,
    ):
        contest = contest_request(
            request,
            budgets,
            chosen,
            seeds=seeds,
            client=client,
            out_dir=out,
            progress=bars,
            resume=resume,
            cluster=cluster_at(ray, model=options.model, cpus=ray_cpus, gpus=ray_gpus),
        )
    if output.is_text:
        print_contest(contest)
        print(out / "contest.html")
    elif output.form == "csv":
        output.table(contest.standings, columns(contest), "")
    else:
        output.fields(contest.model_dump(mode="json"))
    raise typer.Exit(exits.OF_OUTCOME[contest.outcome])


def methods_from(text: str, options: Mapping[str, Any]) -> list[Method]:
    """The methods of these comma-separated names, or all that can be compared; each gets those of
    the options that it has.

    Raises:
        UsageError: There is no such method, or none of them has an option that is given.
    """
    from pruning_client.methods.registry import comparable, default_method, listed

    if text.strip() == ALL:
        chosen = comparable(one.method for one in listed())
    else:
        chosen = [default_method(name) for name in dict.fromkeys(_parts(text))]
    given = {name: value for name, value in options.items() if value is not None}
    found = [_with_own_options(method, given) for method in chosen]
    _check_used(given, found)
    return found


def _with_own_options(method: Method, given: Mapping[str, Any]) -> Method:
    from pruning_client.methods.registry import options_of

    known = options_of(method)
    return replace(method, **{name: value for name, value in given.items() if name in known})


def _check_used(given: Mapping[str, Any], methods: Sequence[Method]) -> None:
    from pruning_client.methods.registry import options_of

    for option in given:
        if not any(option in options_of(method) for method in methods):
            raise UsageError(
                f"None of the methods has the option --{option.replace('_', '-')}.",
                "Leave it out, or add a method that has it.",
            )


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
