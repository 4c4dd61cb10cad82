"""What a run would ask of this machine, and whether that is here; nothing is trained, fetched or written."""

import os
from typing import Any, Literal

import torch

from sisr.driver.run.banner import unlearned
from sisr.driver.run.order import without_fetching
from sisr.driver.run.workers import Workers
from sisr.errors import ConfigError
from sisr.inference.memory import free_bytes
from sisr.losses.perceptual import URL, cached_weights
from sisr.terminal.console import duration, note, print_json
from sisr.training.device import choose_device, is_out_of_memory, resolve
from sisr.training.estimate import Estimate, estimate, without_download
from sisr.training.run import Run

GIB = 2**30
BUSY = 2.0  # programs that want to compute, for each CPU, from which on threads that wait for each other are slow
Asker = Literal["worker", "trial"]


def check_machine(workers: Workers, cpus: float | None, gpus: float | None, *, of: Asker = "worker") -> None:
    """Make sure that this machine alone has what so many workers ask for, of a run or of one trial.

    Args:
        workers: How many.
        cpus: Of each; None: one.
        gpus: Of each.
        of: What the options are named after.

    Raises:
        ConfigError: It has too few CPUs or GPUs.
    """
    here, gpus_here = len(os.sched_getaffinity(0)), torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = workers.least * (cpus or 1.0)
    if wanted > here:
        option = "--workers" if of == "worker" else "--workers-per-trial"
        raise ConfigError(
            f"{option} {workers}: they want {wanted:g} CPUs, and this machine has {here}; at most {here} workers have "
            "one each, and --address names a cluster that has more"
        )
    if gpus and workers.least * gpus > gpus_here:
        raise ConfigError(
            f"--gpus-per-{of} {gpus:g}: {workers.least} such workers want {workers.least * gpus:g} GPUs, and torch "
            f"finds {gpus_here} here; 0 trains on CPUs"
        )


def takes(run: Run, workers: int, gpus_per_worker: float | None, *, here: bool) -> dict[str, Any]:
    """Return as `takes` what is `expected` of a run `here`; nothing where a cluster will train it."""
    return {"takes": expected(run, workers, gpus_per_worker)} if here else {}


def expected(run: Run, workers: int, gpus_per_worker: float | None) -> dict[str, Any]:
    """Return what a run takes on this machine, measured by a few steps on noise.

    Returns:
        Device, precision, and per worker memory in GiB and seconds a step; hours of the whole run without its
        validations; and warnings.
    """
    device = torch.device("cpu") if gpus_per_worker == 0 else choose_device()
    if run.options.threads:
        torch.set_num_threads(run.options.threads)
    config, number_format = run.recipe_config(), resolve(run.options.precision, device)
    found: dict[str, Any] = {"device": _named(device), "precision": number_format, "workers": workers, "warnings": []}
    if device.type == "cpu" and (load := os.getloadavg()[0]) > BUSY * (cpus := len(os.sched_getaffinity(0))):
        found["warnings"].append(
            f"other programs keep this machine busy (load {load:.0f} on {cpus} CPUs), which makes steps slow: "
            "--option threads=1 suffers least"
        )
    if said := unlearned(without_fetching(run, run.recipe), config.steps, "this run"):
        found["warnings"].append(said.removeprefix("warning: "))
    if without_download(config) is not config:
        found["warnings"].append(f"VGG-19's weights would be downloaded to {cached_weights()} from {URL}")
    own = config.model_copy(update={"batch_size": -(-config.batch_size // workers)})
    try:
        taken: Estimate | None = estimate(run.recipe_module(), own, run.options, device)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        taken = None
        found["warnings"].append(f"one step takes more memory than {device} has: --preset 8gb, a smaller hr_crop, or "
                                 "--option accumulate=2 take less")  # fmt: skip
    if taken is not None:
        sharing = workers if device.type == "cpu" else 1  # of one machine's cores
        hours = taken.step_s * sharing * config.steps / 3600
        found |= {"memory_gib": round(taken.memory_bytes / GIB, 3)}
        found |= {"step_s": float(f"{taken.step_s * sharing:.3g}"), "hours": float(f"{hours:.3g}")}
        free = free_bytes() if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]
        if taken.memory_bytes * sharing > free:
            found["warnings"].append(
                f"that is more than the {free / GIB:.1f} GiB that are free: a smaller batch_size or hr_crop, or "
                "--option accumulate=2"
            )
    return found


def show(checked: dict[str, Any], heading: str = "") -> None:
    """Print what was checked as JSON, and below it, for people, under a heading what it takes."""
    print_json(checked)
    note(heading)
    found = checked.get("takes")
    if found is None:
        note("on a cluster: its devices, memory and time are not looked at")
        return
    each = f", each of {found['workers']} workers" if found["workers"] > 1 else ""
    note(f"device {found['device']}, precision {found['precision']}{each}")
    if "hours" in found:
        note(
            f"{_gib(found['memory_gib'])} beside Python's own, {found['step_s']:.3g} s a step, "
            f"{_length(3600 * found['hours'])} in all, by a few steps on noise, without validations"
        )
    for warning in found["warnings"]:
        note(f"warning: {warning}")


def _named(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def _length(seconds: float) -> str:
    return duration(seconds) if seconds >= 1 else "less than a second"


def _gib(memory: float) -> str:
    return f"about {memory:.1f} GiB" if memory >= 0.1 else "less than 0.1 GiB"
