"""How often an address may send a secret that is not valid: a token, a cookie or a link's code."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address

from starlette.types import Scope

from latency_service.core.errors import TooManyRequests, Unauthorised
from latency_service.settings import Settings
from latency_service.web.rates import Buckets

#: Secrets remembered as valid, at once.
_MOST_REMEMBERED = 20_000


class Refusals:
    """Limits the refusals of each address in this process. The limit comes before a secret is
    looked up: whoever is over it costs the database nothing. For one event loop.
    """

    def __init__(self, settings: Settings) -> None:
        self._by_address = Buckets(settings.refusals_per_second, settings.refusals_burst)
        #: Hashes of secrets that were valid when they were looked up last, oldest first.
        self._valid: dict[bytes, None] = {}

    @contextmanager
    def limited(self, scope: Scope, secret: bytes) -> Iterator[None]:
        """A block that looks a secret up and raises `Unauthorised` if it is not valid.

        A secret that was valid before is not limited, so that nobody is locked out by others behind
        the same address. Until it is known what others are, they count as refused: many that arrive
        at once are no more than the limit.

        Args:
            secret: its hash; none is kept in memory.

        Raises:
            TooManyRequests: instead of entering the block.
        """
        is_counted = secret not in self._valid
        if is_counted:
            self.count(scope)
        try:
            yield
        except Unauthorised:
            is_counted = False
            self._valid.pop(secret, None)
            raise
        finally:
            if is_counted:
                self._by_address.give_back(_address(scope))
        self._remember(secret)

    def count(self, scope: Scope) -> None:
        """Count a refusal that needs no look-up.

        Raises:
            TooManyRequests: there were too many already.
        """
        wait_seconds = self._by_address.take(_address(scope))
        if wait_seconds:
            raise too_many(
                "This address sends, without a valid token,",
                "LATENCY_SERVICE_REFUSALS_PER_SECOND",
                wait_seconds,
            )

    def _remember(self, secret: bytes) -> None:
        if secret not in self._valid and len(self._valid) >= _MOST_REMEMBERED:
            del self._valid[next(iter(self._valid))]
        self._valid[secret] = None


def too_many(who: str, setting: str, wait_seconds: float) -> TooManyRequests:
    """The refusal of one request more than a rate allows."""
    return TooManyRequests(
        f"{who} more requests than this service takes.",
        f"Send fewer, or raise {setting} on the service.",
        retry_after_seconds=math.ceil(wait_seconds),
    )


def _address(scope: Scope) -> object:
    """Whom refusals are counted for: an IPv6 user has a whole network."""
    client = scope.get("client")
    host = client[0] if client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return address.packed[:8] if isinstance(address, IPv6Address) else host
