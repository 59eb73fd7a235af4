"""Kills, database restarts and a broken network: whether anything is lost, doubled or left open.

Two replicas of the service, four agents of two devices and a proxy that spoils requests. Processes
kill themselves at named points or are killed at any moment, some are stopped for longer than a
lease, and the database is restarted without a checkpoint; SQLite lives in the replicas, so that its
restart kills both at once. Every participant writes down what it was told. When nothing is broken
any more and all work has ended, a checker compares these histories with the database.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, get_args

from benchmarks.support.chaos.checker import Rule
from benchmarks.support.chaos.faults import Fault
from benchmarks.support.chaos.history import Acknowledged, of_kind
from benchmarks.support.chaos.storm import Outcome as Storm
from benchmarks.support.chaos.storm import Plan, named_points
from benchmarks.support.chaos.storm import run as storm
from benchmarks.support.databases import DIALECTS
from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from latency_service.core.kill_points import AgentPoint, ServicePoint

#: Seed of the kills and faults.
SEED = 22
#: Each rule of the checker as a bar.
BARS: dict[Rule, str] = {
    "lost": "acknowledged results and campaigns that were lost",
    "doubled": "jobs that were counted twice",
    "unfinished": "jobs and campaigns that did not finish",
    "unfenced": "results of fenced attempts that replaced others",
    "reused": "ids that meant two things",
}


def run(quick: bool) -> Outcome:
    """200 kills of the service and of agents, at each named point, and 60 restarts; quick: 4, 6
    and 2 of them.
    """
    kills, agent_kills, restarts = (4, 6, 2) if quick else (200, 200, 60)
    points = 2 if quick else len(get_args(ServicePoint)) + len(get_args(AgentPoint))
    bars: list[Bar] = []
    data: dict[str, Any] = {}
    rows: list[dict[str, str]] = []
    for dialect in DIALECTS:
        plan = Plan(
            dialect=dialect,
            seed=SEED,
            service_kills=kills,
            agent_kills=agent_kills,
            database_restarts=restarts,
            points=points,
        )
        with tempfile.TemporaryDirectory() as folder:
            found = storm(plan, Path(folder))
        bars += _bars(plan, found)
        rows.append(_row(dialect, found))
        data[dialect] = _data(found)
    return Outcome(bars=bars, rows=rows, data=data)


def _bars(plan: Plan, found: Storm) -> list[Bar]:
    name = plan.dialect
    broken = Counter(violation.rule for violation in found.violations)
    faults = min(len(Fault), plan.points)
    acknowledged = len(of_kind(found.events, Acknowledged))
    return [
        at_least(f"{name}: kills of the service", found.service_kills, plan.service_kills, ""),
        at_least(
            f"{name}: kills of agents at named points", found.agent_kills, plan.agent_kills, ""
        ),
        at_least(
            f"{name}: restarts of the database",
            found.database_restarts,
            plan.database_restarts,
            "",
        ),
        *(at_most(f"{name}: {text}", broken[rule], 0, "") for rule, text in BARS.items()),
        at_least(f"{name}: named points of kills", len(named_points(found.kills)), plan.points, ""),
        at_least(f"{name}: stops for longer than a lease", found.stops, 1, ""),
        at_least(f"{name}: kinds of network faults", len(found.faults), faults, ""),
        at_least(f"{name}: acknowledged results", acknowledged, plan.agent_kills, ""),
        at_most(f"{name}: results that were not delivered", found.undelivered, 0, ""),
        at_most(f"{name}: processes that ended by themselves", len(found.unexpected), 0, ""),
        at_most(f"{name}: answers with status 500", found.statuses.get("500", 0), 0, ""),
    ]


def _row(dialect: str, found: Storm) -> dict[str, str]:
    return {
        "database": dialect,
        "minutes": f"{found.seconds / 60:.1f}",
        "service kills": str(found.service_kills),
        "agent kills": str(sum(n for name, n in found.kills.items() if name.startswith("agent"))),
        "restarts": str(found.database_restarts),
        "stops": str(found.stops),
        "network faults": str(sum(found.faults.values())),
        "jobs": str(len(found.stored.jobs)),
        "attempts": str(len(found.stored.attempts)),
        "acknowledged": str(len(of_kind(found.events, Acknowledged))),
    }


def _data(found: Storm) -> dict[str, Any]:
    return {
        "seconds": found.seconds,
        "kills": found.kills,
        "stops": found.stops,
        "refused_starts": found.refused_starts,
        "faults": found.faults,
        "statuses": found.statuses,
        "campaigns": len(found.stored.campaigns),
        "jobs": len(found.stored.jobs),
        "measurements": len(found.stored.measurements),
        "attempts": dict(Counter(attempt.state for attempt in found.stored.attempts)),
        "acknowledged": dict(Counter(one.outcome for one in of_kind(found.events, Acknowledged))),
        "violations": [violation.message for violation in found.violations],
        "unexpected": found.unexpected,
    }
