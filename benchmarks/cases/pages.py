"""Server time and size of every page of the dashboard, with a full database.

100,000 measurements and 1,000 predictors of 100 devices, on SQLite and on PostgreSQL (a real server
from a wheel). Each page is asked for through the whole application, in process; its time is the
median of several requests after one that is not counted. Beside it stands the processor time of
this process, which holds the whole of SQLite and nothing of PostgreSQL: it does not depend on what
else the machine does.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from benchmarks.support import full_database
from benchmarks.support.databases import DIALECTS, migrated
from benchmarks.support.full_database import FULL, QUICK, Filled, Size
from benchmarks.support.harness import Bar, Outcome, at_most
from latency_service.app import create_app
from latency_service.dashboard import links
from latency_service.db.engine import Database
from latency_service.settings import Settings

MOST_MS = 150.0
MOST_KB = 300.0
REQUESTS = 9
TOKEN = "benchmarks-only-0123456789"


def run(quick: bool) -> Outcome:
    """Time every page on both databases."""
    size = QUICK if quick else FULL
    found: dict[str, dict[str, dict[str, float]]] = {}
    for dialect in DIALECTS:
        with migrated(dialect) as url, tempfile.TemporaryDirectory() as folder:
            found[dialect] = _timed(url, folder, size)
    return Outcome(
        bars=_bars(found), data={"size": size._asdict(), "pages": found}, rows=_rows(found)
    )


def _timed(url: str, folder: str, size: Size) -> dict[str, dict[str, float]]:
    """Milliseconds and kilobytes of each page."""
    settings = Settings(database_url=url, data_dir=Path(folder), api_token=TOKEN)
    database = Database(settings.url)
    filled = full_database.fill(database, size)
    _analyse(database)
    database.dispose()
    app = create_app(settings)
    headers = {"authorization": f"Bearer {TOKEN}", "accept": "text/html"}
    with TestClient(app, headers=headers) as client:
        return {name: _one(client, address) for name, address in addresses(filled).items()}


def _analyse(database: Database) -> None:
    """Statistics of the tables, which either database gathers by itself in time."""
    with database.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
        connection.commit()


def addresses(filled: Filled) -> dict[str, str]:
    """Address of each page by its name; of those of single things the one that was filled in."""
    known = {
        "space_id": filled.space,
        "name": filled.device,
        "campaign_id": filled.campaign,
        "job_id": filled.job,
        "measurement_id": filled.measurement,
        "predictor_id": filled.predictor,
        "run_id": filled.run,
        "target_id": filled.target,
    }
    found = {}
    for name, path in links.declared().items():
        if f"{name}.json" in links.declared():
            found[name] = path.format_map(known)
    filtered = {
        "measurements of a device": f"/measurements?device={filled.device}",
        "measurements of a campaign": f"/measurements?campaign={filled.campaign}",
        "measurements, unstable": "/measurements?verdict=unstable",
        "failed jobs": "/queue?state=failed",
        "a week of a device": f"/devices/{filled.device}?hours=168",
    }
    return found | filtered


def _one(client: TestClient, address: str) -> dict[str, float]:
    times = []
    spent = []
    for _ in range(REQUESTS + 1):
        begun = time.perf_counter()
        before = time.process_time()
        answer = client.get(address)
        spent.append(1e3 * (time.process_time() - before))
        times.append(1e3 * (time.perf_counter() - begun))
    if answer.status_code != 200:
        raise RuntimeError(f"{address}: {answer.status_code} {answer.text[:300]}")
    return {
        "ms": statistics.median(times[1:]),
        "cpu_ms": statistics.median(spent[1:]),
        "kb": len(answer.content) / 1000,
    }


def _bars(found: dict[str, dict[str, dict[str, float]]]) -> list[Bar]:
    bars = []
    for database, pages in found.items():
        slowest = max(pages, key=lambda name: pages[name]["ms"])
        largest = max(pages, key=lambda name: pages[name]["kb"])
        bars += [
            at_most(f"slowest page ({slowest}), {database}", pages[slowest]["ms"], MOST_MS, "ms"),
            at_most(f"largest page ({largest}), {database}", pages[largest]["kb"], MOST_KB, "kB"),
        ]
    return bars


def _rows(found: dict[str, dict[str, dict[str, float]]]) -> list[dict[str, str]]:
    names: Any = next(iter(found.values()))
    return [
        {
            "page": name,
            **{
                f"{database}, ms (processor)": f"{one[name]['ms']:.1f} ({one[name]['cpu_ms']:.1f})"
                for database, one in found.items()
            },
            "kB": f"{names[name]['kb']:.1f}",
        }
        for name in names
    ]
