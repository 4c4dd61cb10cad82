"""How much memory this process may still take, and what becomes of what it frees."""

import ctypes
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

# Version 2 and version 1 of control groups: where they lie, and their files for limit and use.
CGROUPS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
# Of glibc's mallopt: M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, and what they shall be.
KEPT = {-8: 1, -3: 2**30, -1: 2**30}
PLENTY = 12 * 2**30  # bytes


@functools.cache
def keep_freed() -> None:
    """Let this process keep what it frees, below 1 GiB, for what it takes next; nothing without glibc.

    glibc gives tensors above 32 MiB back to the kernel, and gets the next ones page by page, which can take as long as
    computing them. Where sizes differ it leaves gaps: training with such tensors takes half as much memory again.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for parameter, value in KEPT.items():
            mallopt(parameter, value)


def keep_freed_where_plenty(threads: int) -> None:
    """Do so where this process's share of the machine's free memory, by its threads that compute, is `PLENTY`."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if free_bytes() * min(1.0, threads / cpus) >= PLENTY:
        keep_freed()


def free_bytes(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many bytes this process may still take.

    Args:
        root: Where control groups are mounted.
        own: Which of them this process is in.
    """
    return max(0, min([psutil.virtual_memory().available, *(limit - used for limit, used in _limits(root, own))]))


def total_bytes(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many bytes there are for this process and others together; arguments as in `free_bytes`."""
    return min([psutil.virtual_memory().total, *(limit for limit, _ in _limits(root, own))])


def _limits(root: Path, own: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use of each control group that this process is in, in bytes."""
    for place, limit_file, use_file, cached in CGROUPS:
        for folder in _folders(root / place, _path_in(own, place)):
            try:
                limit, used = (int((folder / file).read_text()) for file in (limit_file, use_file))
                facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # not there, or "max"
                continue
            yield limit, used - int(facts.get(cached, 0))  # cached files make room


def _path_in(own: Path, controller: str) -> str:
    """Return the path of this process's group in the hierarchy of a controller; version 2 has one without a name."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return ""
    return next((path for _, names, path in lines if controller in names.split(",")), "")


def _folders(top: Path, path: str) -> Iterator[Path]:
    """Yield a group's folder and all above it: each may have a limit."""
    folder = top / path.strip("/")
    while folder != top and folder.is_relative_to(top) and ".." not in folder.parts:
        yield folder
        folder = folder.parent
    yield top
