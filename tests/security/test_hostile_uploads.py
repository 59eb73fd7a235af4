"""Hostile search spaces and models, sent to a real service: it refuses each with a reason, and
nothing else happens to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.health_polling import HealthRecord, health_polled
from tests.support.hostile_models.catalogue import PASSING_MODELS
from tests.support.hostile_models.spoiling import valid_model, valid_space
from tests.support.hostile_uploads import Answer, Upload, catalogue, mutations, send
from tests.support.processes import API_TOKEN, Served, Stage, serve

MUTATIONS = 300
#: The bars hold on a machine that does nothing else (benchmark `hostile`); these on any.
MOST_SECONDS = 30.0
MOST_GROWN_BYTES = 64 << 20
MOST_STALL_SECONDS = 2.0


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, clone_sqlite: Callable[[bool], str]
) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    stage = Stage(folder, folder / "calibrations")
    yield serve(stage, clone_sqlite(True))
    stage.close()


@pytest.fixture(scope="module")
def attack(service: Served) -> tuple[list[Answer], HealthRecord]:
    """Everything sent, two at a time, while `/healthz` was polled."""
    valid = [
        Upload(kind="space", name="valid", content=valid_space()),
        Upload(kind="model", name="valid", content=valid_model()),
    ]
    list(send(service.url, API_TOKEN, valid, 1))
    with health_polled(service.url, service.part.pid) as health:
        uploads = [*catalogue(), *mutations(range(MUTATIONS))]
        answers = list(send(service.url, API_TOKEN, uploads, 2))
    return answers, health


def test_every_kind_is_refused_with_a_reason(attack: tuple[list[Answer], HealthRecord]) -> None:
    answers = [answer for answer in attack[0] if not answer.is_mutation]
    assert len(answers) > 150
    assert [one for one in answers if one.is_accepted or not one.is_typed] == []


def test_every_mutation_is_accepted_or_refused_with_a_reason(
    attack: tuple[list[Answer], HealthRecord],
) -> None:
    answers = [answer for answer in attack[0] if answer.is_mutation]
    assert [one for one in answers if not one.is_typed] == []
    assert 0 < sum(one.is_accepted for one in answers) < MUTATIONS / 2


def test_the_service_does_not_notice(
    service: Served, attack: tuple[list[Answer], HealthRecord]
) -> None:
    answers, health = attack
    assert max(answer.seconds for answer in answers) < MOST_SECONDS
    assert (health.polls > 100, health.unanswered) == (True, 0)
    assert health.longest_seconds < MOST_STALL_SECONDS
    assert health.grown_bytes < MOST_GROWN_BYTES
    assert service.part.process is not None
    assert service.part.process.poll() is None
    assert "Traceback" not in service.part.log.read_text()


def test_models_that_only_running_shows_to_be_hostile_are_stored_unread(service: Served) -> None:
    uploads = [
        Upload(kind="model", name=name, content=build()) for name, build in PASSING_MODELS.items()
    ]
    answers = list(send(service.url, API_TOKEN, uploads, 2))
    assert [one for one in answers if not one.is_accepted] == []


def test_honest_uploads_are_still_judged_quickly(service: Served) -> None:
    """Beside an attack that fills both places."""
    hostile = [upload for upload in catalogue() if "million" in upload.name] * 3
    honest = [Upload(kind="space", name="honest", content=valid_space())]
    answers = list(send(service.url, API_TOKEN, [*hostile, *honest], 8))
    assert answers[-1].is_accepted
    assert {one.status for one in answers} <= {200, 422, 503}
