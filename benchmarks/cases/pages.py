"""Server time, size and first sight of every page of the dashboard, with a full database.

100,000 measurements and 1,000 predictors of 100 devices, on SQLite and on PostgreSQL (a real server
from a wheel). Each page is asked for through the whole application, in process; its time is the
median of several requests after one that is not counted. Beside it stands the processor time of
this process, which holds the whole of SQLite and nothing of PostgreSQL: it does not depend on what
else the machine does. Where Chromium is installed, it opens each page over a socket as well, with
an empty cache, and tells when the largest part of it was drawn (LCP).
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
from tests.support.pictures import CHROMIUM
from tests.support.settings import API_TOKEN
from tests.support.sites import running

MOST_MS = 150.0
MOST_KB = 300.0
MOST_LCP_MS = 1500.0
REQUESTS = 9
#: The paint is told some time after it; a page in which nothing large is drawn tells none.
_LCP = """new Promise((resolve) => {
  let last = 0;
  const seen = (list) => { for (const entry of list.getEntries()) last = entry.startTime; };
  new PerformanceObserver(seen).observe({ type: "largest-contentful-paint", buffered: true });
  setTimeout(() => resolve(last), 500);
})"""


def run(quick: bool) -> Outcome:
    """Time every page on both databases."""
    size = QUICK if quick else FULL
    found: dict[str, dict[str, dict[str, float]]] = {}
    for dialect in DIALECTS:
        with migrated(dialect) as url, tempfile.TemporaryDirectory() as folder:
            found[dialect] = _timed(url, folder, size, draws=dialect == DIALECTS[0])
    return Outcome(
        bars=_bars(found), data={"size": size._asdict(), "pages": found}, rows=_rows(found)
    )


def _timed(url: str, folder: str, size: Size, *, draws: bool) -> dict[str, dict[str, float]]:
    """Milliseconds and kilobytes of each page."""
    settings = Settings(database_url=url, data_dir=Path(folder), api_token=API_TOKEN)
    database = Database(settings.url)
    filled = full_database.fill(database, size)
    _analyse(database)
    database.dispose()
    app = create_app(settings)
    headers = {"authorization": f"Bearer {API_TOKEN}", "accept": "text/html"}
    pages = addresses(filled)
    with TestClient(app, headers=headers) as client:
        found = {name: _one(client, address) for name, address in pages.items()}
    if draws and Path(CHROMIUM).exists():
        for name, lcp_ms in _drawn(settings, pages).items():
            found[name]["lcp_ms"] = lcp_ms
    return found


def _drawn(settings: Settings, pages: dict[str, str]) -> dict[str, float]:
    """Largest contentful paint of each page in Chromium, ms."""
    from playwright.sync_api import sync_playwright

    found = {}
    folder = settings.data_dir
    served = running(folder, database_url=settings.url)
    with served as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        headers = {"authorization": f"Bearer {API_TOKEN}"}
        for name, address in pages.items():
            context = browser.new_context(extra_http_headers=headers)
            page = context.new_page()
            page.goto(site.url + address)
            found[name] = float(page.evaluate(_LCP))
            context.close()
        browser.close()
    return found


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
        "run_id": filled.runs[0],
        "target_id": filled.targets[0],
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
        "the nearest to a latency": f"/predictors/{filled.predictor}/what-if?near=1",
        "a run that goes on": f"/runs/{filled.runs[-1]}",
        "eight runs": "/compare?" + "&".join(f"run={run}" for run in filled.runs[:8]),
        "two targets": "/compare-targets?first={}&second={}&space={}".format(
            *filled.targets[:2], filled.space
        ),
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


def _drawn_bars(pages: dict[str, dict[str, float]]) -> list[Bar]:
    drawn = {name: page["lcp_ms"] for name, page in pages.items() if "lcp_ms" in page}
    if not drawn:
        return []
    last = max(drawn, key=lambda name: drawn[name])
    return [at_most(f"largest contentful paint ({last})", drawn[last], MOST_LCP_MS, "ms")]


def _bars(found: dict[str, dict[str, dict[str, float]]]) -> list[Bar]:
    bars = []
    for database, pages in found.items():
        slowest = max(pages, key=lambda name: pages[name]["ms"])
        largest = max(pages, key=lambda name: pages[name]["kb"])
        bars += [
            at_most(f"slowest page ({slowest}), {database}", pages[slowest]["ms"], MOST_MS, "ms"),
            at_most(f"largest page ({largest}), {database}", pages[largest]["kb"], MOST_KB, "kB"),
        ]
    return [*bars, *_drawn_bars(found[DIALECTS[0]])]


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
            "LCP, ms": f"{names[name]['lcp_ms']:.0f}" if "lcp_ms" in names[name] else "–",
        }
        for name in names
    ]
