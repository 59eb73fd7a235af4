"""Token buckets."""

from __future__ import annotations

from latency_service.web.rates import Buckets


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_let_through_and_then_the_rate() -> None:
    clock = Clock()
    buckets = Buckets(2.0, 5.0, clock=clock)
    assert [buckets.take("a") for _ in range(5)] == [0.0] * 5
    assert buckets.take("a") == 0.5
    clock.now += 0.5
    assert buckets.take("a") == 0.0
    assert buckets.take("a") == 0.5


def test_what_is_refused_takes_nothing() -> None:
    clock = Clock()
    buckets = Buckets(1.0, 1.0, clock=clock)
    buckets.take("a")
    assert [buckets.take("a") for _ in range(10)] == [1.0] * 10


def test_each_key_has_a_bucket_and_a_request_its_cost() -> None:
    buckets = Buckets(1.0, 2.0, clock=Clock())
    assert [buckets.take(key, cost=0.5) for key in "aaaab"] == [0.0] * 5
    assert buckets.take("a", cost=0.5) == 0.5


def test_what_is_given_back_may_be_taken_again() -> None:
    clock = Clock()
    buckets = Buckets(1.0, 2.0, clock=clock)
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 1.0]
    buckets.give_back("a", 0.75)
    assert buckets.take("a") == 0.25
    buckets.give_back("a", 5.0)
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 1.0]
    buckets.give_back("unknown")
    assert buckets.take("unknown", cost=2.0) == 0.0
    assert buckets.take("unknown") == 1.0


def test_a_bucket_is_never_more_than_full() -> None:
    clock = Clock()
    buckets = Buckets(1.0, 2.0, clock=clock)
    buckets.take("a")
    clock.now += 1e6
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 1.0]


def test_memory_is_bounded_and_forgets_the_oldest_first() -> None:
    clock = Clock()
    buckets = Buckets(1e-6, 1.0, capacity=100, clock=clock)
    for key in range(1000):
        buckets.take(key)
    assert len(buckets._full_at) <= 100
    assert buckets.take(999) > 0
    assert buckets.take(0) == 0


def test_full_buckets_are_forgotten_before_others() -> None:
    clock = Clock()
    buckets = Buckets(1.0, 1.0, capacity=10, clock=clock)
    for key in range(9):
        buckets.take(key)
    clock.now += 5
    buckets.take("slow")
    buckets.take("new")
    assert set(buckets._full_at) == {"slow", "new"}
