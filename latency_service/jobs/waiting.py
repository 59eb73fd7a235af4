"""Long polls of one process that wait for work, and who wakes them.

A poll that waits costs no thread, no connection and no look at the database. It is woken when a job
of its device is queued, by whomever (`db.changes`), and then tries to claim. Everything here runs
in the event loop of the process.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection

#: Shortest time between two claims of one poll: work that its agent cannot take would wake it again
#: and again.
REST_SECONDS = 1.0
#: Number of agents whose device is remembered.
MOST_KNOWN = 200_000


class Poll:
    """One request for work that waits.

    Args:
        device_id: device of the agent, where it is known.
    """

    def __init__(self, agent_id: str, device_id: str | None = None) -> None:
        self.agent_id = agent_id
        self.device_id = device_id
        self.is_over = False
        self._woken = asyncio.Event()
        self._rests_until = 0.0

    def wake(self) -> None:
        self._woken.set()

    def end(self) -> None:
        """Send it home."""
        self.is_over = True
        self._woken.set()

    async def wait(self, until: float, clock: Callable[[], float] = time.monotonic) -> bool:
        """Wait until there may be work for it; False when it is over or `until` has come."""
        left_seconds = until - clock()
        if left_seconds <= 0:
            return False
        try:
            async with asyncio.timeout(left_seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        rest_seconds = min(self._rests_until, until) - clock()
        if rest_seconds > 0 and not self.is_over:
            await asyncio.sleep(rest_seconds)
        self._rests_until = clock() + REST_SECONDS
        self._woken.clear()
        return not self.is_over


class WaitingPolls:
    """The polls that wait in this process, by agent and by device."""

    def __init__(self) -> None:
        self._by_agent: dict[str, Poll] = {}
        self._by_device: defaultdict[str, set[Poll]] = defaultdict(set)
        self._device_of: dict[str, str] = {}
        self._is_closed = False

    @property
    def is_empty(self) -> bool:
        return not self._by_device

    def begin(self, agent_id: str) -> Poll:
        """A new poll of an agent; the one that it had before is over."""
        before = self._by_agent.get(agent_id)
        if before is not None:
            self.end(before)
        poll = Poll(agent_id, self._device_of.get(agent_id))
        if self._is_closed:
            poll.end()
            return poll
        self._by_agent[agent_id] = poll
        if poll.device_id is not None:
            self._by_device[poll.device_id].add(poll)
        return poll

    def belongs_to(self, poll: Poll, device_id: str) -> bool:
        """Tell to which device a poll belongs; whether that is news, after which it may have missed
        work that was queued until now.
        """
        if poll.device_id is not None:
            return False
        if len(self._device_of) >= MOST_KNOWN:
            self._device_of.clear()
        self._device_of[poll.agent_id] = device_id
        poll.device_id = device_id
        if not poll.is_over:
            self._by_device[device_id].add(poll)
        return True

    def end(self, poll: Poll) -> None:
        """A poll has been answered, or nobody waits for its answer any more."""
        poll.end()
        if self._by_agent.get(poll.agent_id) is poll:
            del self._by_agent[poll.agent_id]
        device_id = poll.device_id
        if device_id is not None and device_id in self._by_device:
            self._by_device[device_id].discard(poll)
            if not self._by_device[device_id]:
                del self._by_device[device_id]

    def end_of(self, agent_id: str) -> None:
        """Send the poll of an agent home, if one waits."""
        poll = self._by_agent.get(agent_id)
        if poll is not None:
            self.end(poll)

    def wake(self, device_ids: Collection[str]) -> None:
        """Let the polls of these devices try to claim."""
        for device_id in device_ids:
            for poll in self._by_device.get(device_id, ()):
                poll.wake()

    def close(self) -> None:
        """Send all of them home, those that come later too: the service stops."""
        self._is_closed = True
        for poll in list(self._by_agent.values()):
            self.end(poll)
