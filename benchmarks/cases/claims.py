"""Jobs claimed and finished per second by 16 processes, and over HTTP.

In process: each of 16 processes claims jobs through the service's own function, in a transaction,
and ends attempt and job in another; no measurements are stored. A claim by select and update, which
the service must not use, is raced too: it shows that the race would find doubles. Over HTTP: 16
agents lease jobs of one service process and send results of one architecture with nine rounds,
which are validated, summarised and stored; the server's processor time is read from the operating
system.

Rates are those of the fastest of three races, since what else the host of a virtual machine does
only makes a race slower; the JSON has all of them. Every other bar is for the worst of the three.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.support.agents import HttpRace, race_over_http
from benchmarks.support.databases import DIALECTS, Dialect, migrated
from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.race import Race, fill, race
from latency_service.db.engine import Database
from latency_service.settings import Settings

#: Claims and finishes per second in process that each database has to reach.
LEAST_PER_SECOND = {"sqlite": 300.0, "postgresql": 1000.0}
LEAST_PER_CPU_SECOND = 150.0
MOST_P99_MS = 250.0


class Size(NamedTuple):
    """Number of processes, of races, and of jobs of each race."""

    processes: int
    races: int
    jobs: int
    two_steps: int
    over_http: int


FULL = Size(processes=16, races=3, jobs=10_000, two_steps=500, over_http=2_000)
QUICK = Size(processes=4, races=2, jobs=200, two_steps=100, over_http=100)


class Raced(NamedTuple):
    """The races on one database."""

    in_process: list[Race]
    two_steps: Race
    over_http: list[HttpRace]

    @property
    def fastest(self) -> Race:
        return min(self.in_process, key=lambda one: one.seconds)

    @property
    def fastest_over_http(self) -> HttpRace:
        """That with the least processor time of the service."""
        return min(self.over_http, key=lambda one: one.cpu_seconds)


def run(quick: bool) -> Outcome:
    """Race on SQLite and PostgreSQL."""
    size = QUICK if quick else FULL
    raced = {dialect: _race_on(dialect, size) for dialect in DIALECTS}
    return Outcome(
        bars=[bar for dialect, one in raced.items() for bar in _bars(dialect, one)],
        rows=[_row(dialect, one) for dialect, one in raced.items()],
        data={dialect: _data(one) for dialect, one in raced.items()},
    )


def _race_on(dialect: Dialect, size: Size) -> Raced:
    with migrated(dialect) as url:
        in_process = [_race(url, size.processes, size.jobs) for _ in range(size.races)]
        two_steps = _race(url, size.processes, size.two_steps, in_two_steps=True)
    over_http = [_race_over_http(dialect, size) for _ in range(size.races)]
    return Raced(in_process, two_steps, over_http)


def _race_over_http(dialect: Dialect, size: Size) -> HttpRace:
    with migrated(dialect) as url:
        return race_over_http(url, size.processes, size.over_http)


def _race(url: str, processes: int, jobs: int, *, in_two_steps: bool = False) -> Race:
    database = Database(Settings(database_url=url).url)
    with database.write() as session:
        agents = fill(session, jobs, processes)
    database.dispose()
    return race(url, agents, jobs, in_two_steps=in_two_steps)


def _bars(dialect: str, raced: Raced) -> list[Bar]:
    one, http = raced.fastest, raced.fastest_over_http
    every = raced.in_process
    doubles = sum(count - 1 for each in every for count in each.finished.values())
    unfinished = sum(each.jobs - len(each.finished) for each in every)
    errors = sum(len(each.errors) for each in every)
    p99_ms = max(each.p99_ms for each in every)
    http_p99_ms = max(each.p99_ms for each in raced.over_http)
    found = sum(count - 1 for count in raced.two_steps.finished.values())
    rate = one.jobs / one.seconds
    least = LEAST_PER_SECOND[dialect]
    return [
        at_most(f"{dialect}: jobs finished twice", doubles, 0, "jobs"),
        at_most(f"{dialect}: jobs not finished", unfinished, 0, "jobs"),
        at_most(f"{dialect}: errors that reached a process", errors, 0, "errors"),
        at_least(f"{dialect}: doubles of select and update", found, 1, "jobs"),
        at_least(f"{dialect}: claims and finishes in process", rate, least, "1/s"),
        at_most(f"{dialect}: p99 of a claim and finish", p99_ms, MOST_P99_MS, "ms"),
        at_least(
            f"{dialect}: over HTTP, per second of service CPU",
            http.jobs / http.cpu_seconds,
            LEAST_PER_CPU_SECOND,
            "1/s",
        ),
        at_most(f"{dialect}: p99 of a request over HTTP", http_p99_ms, MOST_P99_MS, "ms"),
    ]


def _row(dialect: str, raced: Raced) -> dict[str, str]:
    one, http = raced.fastest, raced.fastest_over_http
    return {
        "database": dialect,
        "in process, 1/s": f"{one.jobs / one.seconds:.0f}",
        "client CPU, ms": f"{1000 * sum(r.cpu_seconds for r in one.racers) / one.jobs:.2f}",
        "p50, ms": f"{one.milliseconds[len(one.milliseconds) // 2]:.1f}",
        "p99, ms": f"{one.p99_ms:.0f}",
        "HTTP, 1/s": f"{http.jobs / http.seconds:.0f}",
        "HTTP, service CPU, ms": f"{1000 * http.cpu_seconds / http.jobs:.2f}",
        "HTTP p99, ms": f"{http.p99_ms:.0f}",
    }


def _data(raced: Raced) -> dict[str, Any]:
    one, http = raced.fastest, raced.fastest_over_http
    return {
        "per_second": [each.jobs / each.seconds for each in raced.in_process],
        "http_per_cpu_second": [each.jobs / each.cpu_seconds for each in raced.over_http],
        "processes": len(one.racers),
        "jobs": one.jobs,
        "seconds": one.seconds,
        "longest_ms": one.milliseconds[-1],
        "share_of_each_process": [len(racer.finished) for racer in one.racers],
        "http_jobs": http.jobs,
        "http_seconds": http.seconds,
        "http_service_cpu_seconds": http.cpu_seconds,
        "http_longest_ms": http.milliseconds[-1],
    }
