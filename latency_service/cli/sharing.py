"""``latency-service export | import | drop-rounds``: measurements as files, and without rounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import CommandError, DataDir, DeviceFilter, SpaceFilter
from latency_service.cli.database import answering, require_migrated
from latency_service.core import exit_codes
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output

if TYPE_CHECKING:
    from latency_service.db.engine import Database
    from latency_service.settings import Settings


@shows
def export(
    folder: Annotated[Path, typer.Argument(help="New folder.", show_default=False)],
    output: Output,
    space: SpaceFilter = None,
    device: DeviceFilter = None,
    data_dir: DataDir = None,
) -> None:
    """Write measurements to a folder of Parquet files, for another team's service or for analysis.

    They hold graphs without weights, fingerprints of targets, and measurements with raw rounds.
    """
    settings = common.settings(data_dir=data_dir)
    export_to = common.extra("latency_service.sharing.exporting").export_to
    with (
        answering(settings),
        _database(settings) as database,
        common.working("exporting", "measurements") as tell,
    ):
        try:
            counts = export_to(database, folder, space=space, device=device, tell=tell)
        except OSError as error:
            raise CommandError(
                f"{folder} cannot be written: {error.strerror or error}.",
                "Give a folder that does not exist yet.",
                exit_code=exit_codes.INVALID,
            ) from error
    output.fields({"folder": str(folder), **asdict(counts)})


@shows
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder that `export` wrote.", show_default=False)],
    output: Output,
    train: Annotated[
        bool, typer.Option("--train", help="Train predictors of the imported targets.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Add what another service has measured.

    Its devices get names of their own and are never mixed with devices of this service. Importing
    twice adds nothing.
    """
    settings = common.settings(data_dir=data_dir)
    import_from = common.extra("latency_service.sharing.importing").import_from
    with (
        answering(settings),
        _database(settings) as database,
        common.working("importing", "measurements") as tell,
    ):
        done = import_from(database, folder, train=train, tell=tell)
    counts = {f"new {name}": count for name, count in asdict(done.added).items()}
    output.fields({"devices": done.devices, **counts, "trainings": done.trainings})


@shows
def drop_rounds(
    older_than: Annotated[
        float, typer.Option("--older-than", min=0, help="Days that raw rounds are kept.")
    ],
    output: Output,
    data_dir: DataDir = None,
) -> None:
    """Drop the raw rounds of old measurements; their statistics stay.

    The service does so by itself if LATENCY_SERVICE_KEEP_ROUNDS_DAYS is set.
    """
    settings = common.settings(data_dir=data_dir)
    drop = common.extra("latency_service.retention.rounds").drop_rounds
    with answering(settings), _database(settings) as database, common.working("dropping"):
        dropped = drop(database, older_than)
    output.fields({"measurements without rounds now": dropped})


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    """The database that the settings name, if it has this version's schema.

    Raises:
        NotMigrated: it has not.
    """
    require_migrated(settings)
    database: Database = common.extra("latency_service.db.engine").Database(settings.url)
    try:
        yield database
    finally:
        database.dispose()
