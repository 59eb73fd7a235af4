"""How many requests a token or an address may send: one token bucket for each, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

#: Buckets remembered at once. One that is full again equals one that is not known.
CAPACITY = 20_000


class Buckets:
    """A bucket for each key: it holds `burst` requests and is filled with `per_second`.

    Kept as the time at which a bucket will be full, so that nothing has to be filled.
    """

    def __init__(
        self,
        per_second: float,
        burst: float,
        *,
        capacity: int = CAPACITY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds_each = 1.0 / per_second
        self._slack_seconds = burst / per_second
        self._capacity = capacity
        self._clock = clock
        self._full_at: dict[Hashable, float] = {}

    def take(self, key: Hashable, cost: float = 1.0) -> float:
        """Take `cost` requests out of a bucket.

        Returns:
            0, or the seconds until the bucket holds enough; nothing is taken then.
        """
        now = self._clock()
        full_at = max(now, self._full_at.get(key, now)) + cost * self._seconds_each
        wait_seconds = full_at - now - self._slack_seconds
        if wait_seconds > 0:
            return wait_seconds
        if key not in self._full_at and len(self._full_at) >= self._capacity:
            self._forget(now)
        self._full_at[key] = full_at
        return 0.0

    def give_back(self, key: Hashable, cost: float = 1.0) -> None:
        """Put `cost` requests back that were taken out of a bucket."""
        if key in self._full_at:
            self._full_at[key] -= cost * self._seconds_each

    def _forget(self, now: float) -> None:
        """Forget full buckets; where there are too few, the older half of all."""
        kept = [(key, at) for key, at in self._full_at.items() if at > now]
        if len(kept) > self._capacity // 2:
            kept = kept[len(kept) - self._capacity // 2 :]
        self._full_at = dict(kept)
