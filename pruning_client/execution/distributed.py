"""Data-parallel training under ``torchrun``: every process runs the same job, and only the first
communicates with the service.

Without a process group all functions are the identity, so that callers need not distinguish.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from pruning_client.errors import PruningError

#: Timeout of the processes that wait for the first, which may wait for a campaign.
_PATIENCE = timedelta(days=2)
_POLL_SECONDS = 0.01


class _Store(Protocol):
    """The methods of torch's stores that are used here."""

    def set(self, key: str, value: str) -> None: ...

    def get(self, key: str) -> bytes:
        """Wait until there is a value, and return it."""

    def check(self, keys: list[str]) -> bool: ...


class FirstFailed(PruningError):
    """The first process of the job has failed; its message has the cause."""

    code = "first_failed"


def world() -> int:
    """Number of processes of the job."""
    return dist.get_world_size() if _is_open() else 1


def rank() -> int:
    """Index of this process, from 0."""
    return dist.get_rank() if _is_open() else 0


@contextlib.contextmanager
def opened() -> Iterator[None]:
    """Join the process group that ``torchrun`` describes in the environment, if there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or _is_open():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    store, rank, world_size = next(rendezvous("env://", timeout=_PATIENCE))
    # public, though torch's types do not export it
    ours = dist.PrefixStore(_agreed(store, rank, world_size), store)  # type: ignore[attr-defined]
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(
        backend, store=ours, rank=rank, world_size=world_size, timeout=_PATIENCE
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _agreed(store: _Store, rank: int, world_size: int) -> str:
    """A name that all processes of this start share and that no earlier start had.

    torchrun keeps one store over all its restarts, so that a process might read the address of a
    process that was lost (pytorch#135712), and its count of restarts differs between the nodes of a
    job. So every other process asks a new question, and the first one answers with a new name,
    until each of them has acknowledged it.
    """
    return _asked(store, rank) if rank > 0 else _answered(store, world_size)


def _asked(store: _Store, rank: int) -> str:
    question = uuid.uuid4().hex
    store.set(f"question/{rank}", question)
    name = store.get(f"answer/{question}").decode()
    store.set(f"{name}/heard/{rank}", "")
    return name


def _answered(store: _Store, world_size: int) -> str:
    name = uuid.uuid4().hex
    waiting = set(range(1, world_size))
    while waiting:
        for other in [other for other in waiting if store.check([f"question/{other}"])]:
            store.set(f"answer/{store.get(f'question/{other}').decode()}", name)
            if store.check([f"{name}/heard/{other}"]):
                waiting.remove(other)
        time.sleep(_POLL_SECONDS)
    return name


def restarted() -> bool:
    """Whether ``torchrun`` has restarted this job after a process was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def from_first(make: Callable[[], str]) -> str:
    """Call `make` in the first process, and return its result in every process.

    Raises:
        FirstFailed: In the other processes, if `make` raised an error; the first process raises
            that error itself.
    """
    if world() == 1:
        return make()
    if rank() > 0:
        return _received()
    try:
        text = make()
    except BaseException:
        _send(None)
        raise
    _send(text)
    return text


def share(count: int) -> tuple[slice, float]:
    """This process's samples of a batch, and the weight of their mean loss in the mean over all
    processes. A process for which there is none gets the first one, with a weight of 0.
    """
    mine = range(count)[rank() :: world()]
    if not mine:
        return slice(0, 1), 0.0
    return slice(rank(), None, world()), len(mine) * world() / count


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes.

    There is one message for each dtype: many small messages take several times as long.
    """
    if world() == 1:
        return
    by_dtype = defaultdict[torch.dtype, list[Tensor]](list)
    for parameter in parameters:
        if parameter.grad is not None:
            by_dtype[parameter.grad.dtype].append(parameter.grad)
    for gradients in by_dtype.values():
        _average_together(gradients)


def _average_together(tensors: Sequence[Tensor]) -> None:
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    average(joined)
    parts = torch.split(joined, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def average_buffers(model: nn.Module) -> None:
    """Replace every floating buffer (statistics of batch norms) by its mean over the processes."""
    for buffer in model.buffers():
        if buffer.is_floating_point():
            average(buffer)


def average(tensor: Tensor) -> None:
    """Replace a tensor by its mean over the processes."""
    if world() > 1:
        dist.all_reduce(tensor)
        tensor /= world()


def _is_open() -> bool:
    return dist.is_available() and dist.is_initialized()


def _send(text: str | None) -> None:
    data = b"" if text is None else text.encode()
    dist.broadcast(torch.tensor([-1 if text is None else len(data)]), src=0)
    if data:
        dist.broadcast(torch.frombuffer(bytearray(data), dtype=torch.uint8), src=0)


def _received() -> str:
    length = torch.zeros(1, dtype=torch.int64)
    dist.broadcast(length, src=0)
    if int(length) < 0:
        raise FirstFailed(
            "The first process of this job has failed.", "See the message of the first process."
        )
    data = torch.zeros(int(length), dtype=torch.uint8)
    if len(data):
        dist.broadcast(data, src=0)
    return bytes(data.numpy()).decode()
