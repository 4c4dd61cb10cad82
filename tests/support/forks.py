"""Processes that are forked from one that has imported torch and MLflow, for which each would need seconds."""

import multiprocessing
from multiprocessing.forkserver import ensure_running
from typing import Any

# That process runs no thread; it is one for all, and so imports what any of them needs.
IMPORTED = [
    "torch",
    "torch.distributed",
    "pytest",
    "sisr.training.contract",
    "sisr.training.loop",
    "sisr.inference.tiled",
    "sisr.recipes.esrgan",
    "sisr.tracking.service",
]


def forkserver() -> Any:
    """Return the `multiprocessing` that starts such processes; theirs runs from here on."""
    multiprocessing.set_forkserver_preload(IMPORTED)
    ensure_running()
    return multiprocessing.get_context("forkserver")
