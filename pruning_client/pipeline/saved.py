"""Results that were written earlier, as pages again."""

from __future__ import annotations

from pathlib import Path

from latency_service.core.client import Client
from pruning_client.errors import InvalidInput
from pruning_client.pipeline.artifacts import REPORT
from pruning_client.pipeline.compare import FRONT, read_report, recorded_report
from pruning_client.pipeline.contest.contest import CONTEST
from pruning_client.reports.contest_schema import Contest
from pruning_client.reports.html import render, render_contest, render_front
from pruning_client.reports.schema import Front


def page_of(run: str, client: Client) -> str:
    """The page of a finished job, sweep or comparison of methods.

    Args:
        run: its folder, or the id of a run that the service keeps.

    Raises:
        InvalidInput: there is no such folder, or it holds no result of this version.
        ApiError: the service knows no such run.
    """
    folder = Path(run)
    if not folder.is_dir():
        return render(recorded_report(run, client))
    try:
        if (folder / CONTEST).exists():
            return render_contest(Contest.model_validate_json((folder / CONTEST).read_text()))
        if (folder / FRONT).exists() and not (folder / REPORT).exists():
            return render_front(Front.model_validate_json((folder / FRONT).read_text()))
    except (OSError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise InvalidInput(
            f"The result in {folder} cannot be read: {cause}.", "Run it again with this version."
        ) from error
    return render(read_report(folder))
