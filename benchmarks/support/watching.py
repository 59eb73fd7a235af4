"""Viewers of a live page: ``python -m benchmarks.support.watching ADDRESS NUMBER``.

The first line of its input is a token. It opens that many streams of server-sent events and, when
its input ends, prints how many messages each of them got and how many streams were lost.
"""

from __future__ import annotations

import asyncio
import json
import sys

import httpx2


async def watch(address: str, token: str, number: int) -> dict[str, object]:
    """Watch until the input ends."""
    counts = [0] * number
    limits = httpx2.Limits(max_connections=number)
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=None, limits=limits) as http:
        tasks = [asyncio.create_task(_count(http, address, counts, at)) for at in range(number)]
        await asyncio.to_thread(sys.stdin.read)
        lost = sum(task.done() and task.exception() is not None for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {"messages": counts, "lost": lost}


async def _count(http: httpx2.AsyncClient, address: str, counts: list[int], at: int) -> None:
    async with http.stream("GET", address) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            counts[at] += line.startswith("data:")


if __name__ == "__main__":
    secret = sys.stdin.readline().strip()
    print(json.dumps(asyncio.run(watch(sys.argv[1], secret, int(sys.argv[2])))))
