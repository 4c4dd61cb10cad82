"""Several images at a time, each by one thread, so that decoding, enlarging and measuring overlap on all cores."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def in_order(items: Iterable[T], work: Callable[[int, T], R], at_once: int = 1) -> Iterator[tuple[T, R]]:
    """Yield each item with the result of `work(its number, it)`, in their order; no more than needed is kept.

    Args:
        items: Asked for one at a time, by the thread that asks for the results.
        work: Called by `at_once` threads, which share torch's CPU threads out evenly.
        at_once: 1: by the thread that asks for the results, one after another.
    """
    if at_once == 1:
        yield from ((item, work(number, item)) for number, item in enumerate(items))
        return
    threads = max(1, torch.get_num_threads() // at_once)
    pool = ThreadPoolExecutor(at_once, "measure", torch.set_num_threads, (threads,))
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for number, item in enumerate(items):
            waiting.append((item, pool.submit(work, number, item)))
            if len(waiting) > at_once:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
