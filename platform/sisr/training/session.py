"""What differs between the hosts of the training loop: a plain process, a Ray Train worker, a Ray Tune trial."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sisr.disk.run_folder import RunFolder

T = TypeVar("T")


class Log(Protocol):
    """Where metrics and pictures go; never waits for a server."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Keep scalars of one step."""

    def image(self, step: int, key: str, path: str) -> None:
        """Keep a picture, given by its path inside the run's folder."""

    def tags(self, values: dict[str, Any]) -> None:
        """Keep facts about the run."""

    def flush(self) -> None:
        """Make everything so far durable."""

    def close(self) -> None:
        """Flush, and let another process write."""


@contextmanager
def closing(log: Log) -> Iterator[None]:
    """Close a log after the block; an error of the block counts more than what can't be recorded of it."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            log.close()
        raise
    log.close()


class NoLog:
    """The log of workers other than the first: keeps nothing."""

    def metrics(self, step: int, values: dict[str, float]) -> None: ...

    def image(self, step: int, key: str, path: str) -> None: ...

    def tags(self, values: dict[str, Any]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Request(IntEnum):
    """What a host asks of the loop at the end of a step; of several workers' requests the largest counts."""

    CONTINUE = 0
    SAVE = 1
    STOP = 2  # after saving


class Session(Protocol):
    """One worker's rank among the workers of a run, and its connection to the host."""

    rank: int
    world: int
    device: torch.device

    def request(self, step: int) -> Request:
        """Return what the host asks for when `step` steps are done; called once a step."""

    def saved(self, step: int) -> None:
        """Tell the host that the checkpoint that it asked for is written; called by the first worker."""

    def wait_for_others(self) -> None:
        """Return once all workers have called it, however long some of them take: an hour for packing images, say."""

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Hand the numbers of an evaluation to the host; called equally often by all workers."""


@dataclass
class PlainSession:
    """A worker in a plain process: no Ray. The run's folder holds all that the host would be told."""

    folder: RunFolder
    device: torch.device
    rank: int = 0
    world: int = 1
    until: int | None = None  # step to stop at, resumable; None: the run's end

    def request(self, step: int) -> Request:
        stop = (self.until is not None and step >= self.until) or self.folder.stop_requested()
        return Request.STOP if stop else Request.CONTINUE

    def saved(self, step: int) -> None: ...

    def wait_for_others(self) -> None:
        """Do nothing: workers on one machine share the packed images."""

    def report(self, step: int, metrics: dict[str, float]) -> None: ...


class Votes:
    """Lets the workers of a run agree on what their hosts ask for, without waiting for a GPU's work."""

    def __init__(self, session: Session) -> None:
        """Join the vote; called by all workers."""
        self._session = session
        # NCCL speaks for GPUs only, in the order of their work: hosts talk to each other directly.
        apart = session.world > 1 and session.device.type != "cpu"
        self._hosts: Any = dist.new_group(backend="gloo") if apart else None

    def agree(self, step: int) -> Request:
        """Return the largest of all workers' requests after `step` steps; all get the same answer at the same step."""
        request = self._session.request(step)
        if self._session.world == 1:
            return request
        vote = torch.tensor(int(request))
        dist.all_reduce(vote, op=dist.ReduceOp.MAX, group=self._hosts)
        return Request(int(vote.item()))


def gather(value: T, session: Session) -> list[T]:
    """Return every worker's value, by rank; called by all workers at the same step."""
    if session.world == 1:
        return [value]
    values: list[Any] = [None] * session.world
    dist.all_gather_object(values, value)
    return values


def computed_once(compute: Callable[[], T], session: Session) -> T:
    """Return what the first worker computes, on all of them: equal to the last bit whatever their machines."""
    values: list[Any] = [compute() if session.rank == 0 else None]
    if session.world > 1:
        dist.broadcast_object_list(values, src=0)
    return values[0]


def weighted(scalars: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
    """Return a step's scalars so that their plain mean over workers is that over examples."""
    return scalars if weight == 1.0 else {name: value * weight for name, value in scalars.items()}


def mean_of(values: Tensor, session: Session) -> Tensor:
    """Return the means over all workers of `values`, float64 (n,) on the session's device, which may be overwritten."""
    if session.world > 1:
        dist.all_reduce(values)
        values /= session.world
    return values


def mean_over_workers(scalars: dict[str, Tensor], session: Session) -> dict[str, float]:
    """Return each scalar's mean over all workers: of `weighted` ones the value of their micro-batches together."""
    plain = [value.detach().to(session.device, torch.float64) for value in scalars.values()]
    values = mean_of(torch.stack(plain), session).tolist() if plain else []
    return dict(zip(scalars, values, strict=True))
