"""A Ray that a command starts for itself, which ends with it: what its processes know of that, what it leaves out."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

# What all processes of such a Ray find in their environment.
MARK = {
    "SISR_OWN_RAY": "1",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody announces that its only node goes
}
# Ray's processes that nobody uses there: the dashboard, which has no page and reports nothing; what brings the workers'
# output to the driver, which does not show it; what asks for more nodes.
UNUSED = ("start_api_server", "start_log_monitor", "start_monitor")


def is_own() -> bool:
    """Return whether the Ray of this process ends with the command that has started it: with this one, or one above."""
    return "SISR_OWN_RAY" in os.environ


def mark(own: bool) -> None:
    """Remember, before Ray is started or joined, whether it is this process's own."""
    if own:
        os.environ.update(MARK)
    elif is_own():
        for name in MARK:
            os.environ.pop(name, None)


@contextmanager
def started_for_us() -> Iterator[None]:
    """Let a Ray that is started in the block leave out what nobody uses, and get no signals of this process's group.

    `ray.init` has no options for it. `timeout`, systemd, Slurm and a terminal that is closed send SIGTERM or SIGHUP to
    the whole group: Ray would be gone before the run has saved, and its C++ would end this process a minute later.
    Ctrl-C Ray keeps away itself.
    """
    from ray._private import services
    from ray._private.node import Node

    starts, popen = {name: getattr(Node, name) for name in UNUSED}, services.ConsolePopen
    for name in starts:
        setattr(Node, name, lambda node, **options: None)
    services.ConsolePopen = functools.partial(popen, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = popen
        for name, start in starts.items():
            setattr(Node, name, start)
