"""The memory that large bodies of all requests take together."""

from __future__ import annotations

import pytest

from latency_service.core.errors import Overloaded
from latency_service.settings import Settings
from latency_service.web.held import Bodies

SETTINGS = Settings(upload_memory_bytes=1000, json_memory_bytes=100)


@pytest.fixture
def bodies() -> Bodies:
    return Bodies(SETTINGS)


def test_others_have_room_until_all_is_taken(bodies: Bodies) -> None:
    for number in range(3):
        bodies.of(f"token-{number}").grow("json", 30)
    late = bodies.of("late")
    with pytest.raises(Overloaded, match="large bodies") as caught:
        late.grow("json", 11)
    assert "LATENCY_SERVICE_JSON_MEMORY_BYTES" in caught.value.cure
    late.grow("json", 10)


def test_what_a_request_held_is_free_when_it_has_ended(bodies: Bodies) -> None:
    first, second = bodies.of("a"), bodies.of("b")
    first.grow("json", 90)
    first.release()
    first.release()
    second.grow("json", 90)
    with pytest.raises(Overloaded):
        first.grow("json", 11)


def test_a_body_that_was_refused_holds_what_it_had(bodies: Bodies) -> None:
    first, second = bodies.of("a"), bodies.of("b")
    first.grow("json", 40)
    second.grow("json", 60)
    with pytest.raises(Overloaded):
        first.grow("json", 41)
    second.release()
    third = bodies.of("c")
    third.grow("json", 60)
    with pytest.raises(Overloaded):
        third.grow("json", 61)


def test_a_token_has_half(bodies: Bodies) -> None:
    bodies.of("a").grow("json", 40)
    again = bodies.of("a")
    again.grow("json", 10)
    with pytest.raises(Overloaded):
        again.grow("json", 11)
    bodies.of("b").grow("json", 50)


def test_a_body_that_is_alone_may_be_larger(bodies: Bodies) -> None:
    bodies.of("a").grow("upload", 5000)
    with pytest.raises(Overloaded, match="large bodies") as caught:
        bodies.of("b").grow("upload", 1)
    assert "LATENCY_SERVICE_UPLOAD_MEMORY_BYTES" in caught.value.cure


def test_uploads_leave_room_for_json(bodies: Bodies) -> None:
    bodies.of("a").grow("upload", 5000)
    bodies.of("b").grow("json", 100)
