"""Hostile search spaces and models sent to a real service, and whether it notices.

Every kind of the tests' catalogue, then mutations of a valid space and of a valid model (bytes
flipped, cut and repeated; fields of the protobuf changed, dropped, repeated, swapped), each with
its own seed. They go to one service process over HTTP, two at a time, while another process asks
`/healthz` every 10 ms. Each must be answered with a reason of its own type, or accepted: some
mutations are harmless. Memory is the service's resident memory, after the last answer, above what
it was after one valid upload of each kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from benchmarks.support.databases import migrated
from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.served import TOKEN, Server, served
from tests.support.health_polling import HealthRecord, health_polled
from tests.support.hostile_models.spoiling import valid_model, valid_space
from tests.support.hostile_uploads import Answer, Upload, catalogue, mutations, send

MUTATIONS = 10_000
QUICK_MUTATIONS = 300
AT_A_TIME = 2


def run(quick: bool) -> Outcome:
    """The catalogue and 10,000 mutations; quick: 300."""
    with migrated("sqlite") as url, served(url) as service:
        answers, health = _attack(service, QUICK_MUTATIONS if quick else MUTATIONS)
        grown_mb = health.grown_bytes / 2**20
        restarts = int(not service.is_running)
    kinds = [answer for answer in answers if not answer.is_mutation]
    return Outcome(
        bars=[
            at_least("kinds in the catalogue", len(kinds), 40, ""),
            at_most("kinds that were accepted", sum(a.is_accepted for a in kinds), 0, ""),
            *_bars(answers, health),
            at_most("memory of the service above before", grown_mb, 64, "MB"),
            at_most("restarts of the service", restarts, 0, ""),
        ],
        rows=[_row(kind, answers) for kind in ("space", "model")],
        data=_data(answers, health),
    )


def _attack(service: Server, count: int) -> tuple[list[Answer], HealthRecord]:
    valid = [
        Upload(kind="space", name="valid", content=valid_space()),
        Upload(kind="model", name="valid", content=valid_model()),
    ]
    list(send(service.url, TOKEN, valid, 1))
    with health_polled(service.url, service.pid) as health:
        uploads = chain(catalogue(), mutations(range(count)))
        answers = list(send(service.url, TOKEN, uploads, AT_A_TIME))
    return answers, health


def _bars(answers: Sequence[Answer], health: HealthRecord) -> list[Bar]:
    seconds = [answer.seconds for answer in answers]
    untyped = sum(not answer.is_typed for answer in answers)
    return [
        at_most("uploads without a reason of its type", untyped, 0, ""),
        at_most("time to an answer, 99th percentile", float(np.percentile(seconds, 99)), 2, "s"),
        at_most("longest time to an answer", max(seconds), 2, "s"),
        at_most("longest response time of /healthz", 1000 * health.longest_seconds, 100, "ms"),
        at_least("polls of /healthz", health.polls, 100, ""),
        at_most("polls of /healthz without an answer", health.unanswered, 0, ""),
    ]


def _row(kind: str, answers: Sequence[Answer]) -> dict[str, str]:
    found = [answer for answer in answers if answer.kind == kind]
    mutated = [answer for answer in found if answer.is_mutation]
    seconds = [answer.seconds for answer in found]
    return {
        "uploads": f"{kind}s",
        "kinds": str(len(found) - len(mutated)),
        "mutations": str(len(mutated)),
        "of them accepted": str(sum(answer.is_accepted for answer in mutated)),
        "median": f"{1000 * np.median(seconds):.0f} ms",
        "99th percentile": f"{1000 * np.percentile(seconds, 99):.0f} ms",
        "longest": f"{1000 * max(seconds):.0f} ms",
    }


def _data(answers: Sequence[Answer], health: HealthRecord) -> dict[str, Any]:
    slowest = sorted(answers, key=lambda answer: -answer.seconds)[:10]
    untyped = [answer for answer in answers if not answer.is_typed]
    return {
        "statuses": Counter(str(answer.status) for answer in answers),
        "slowest, s": {f"{a.kind}, {a.name}": round(a.seconds, 3) for a in slowest},
        "untyped": {a.name: f"{a.status} {a.code} {a.message[:200]}" for a in untyped[:20]},
        "polls of /healthz": health.polls,
        "response times of /healthz over 100 ms, s": health.slow_seconds[:50],
        "resident memory before, MB": round(health.before_bytes / 2**20, 1),
        "highest resident memory seen, MB": round(health.peak_bytes / 2**20, 1),
    }
