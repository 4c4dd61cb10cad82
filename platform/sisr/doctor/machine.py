"""Whether this machine can train: Python, libraries, GPUs, memory, disk and Ray's token."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from sisr.disk import code_revision
from sisr.disk.cache import home
from sisr.doctor import Diagnosis, Level
from sisr.inference.memory import free_bytes, total_bytes

GIB = 2**30
OLDEST_PYTHON = (3, 11)
ENOUGH_MEMORY_GIB = 8
ENOUGH_DISK_GIB = 10
LEAST_DISK_GIB = 1
ENOUGH_SHM_GIB = 1


def examine(runs: Path, cache: Path) -> list[Diagnosis]:
    """Return what was found on this machine; runs and packed images will be written to the two folders."""
    checks: tuple[Callable[[], Diagnosis], ...] = (python, libraries, gpu, memory, shared_memory, token, code)
    return [check() for check in checks] + list(disks({"runs": runs, "cache": cache}))


def python() -> Diagnosis:
    """Return whether Python is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Diagnosis("error", "python", version, "install Python 3.11 or newer")
    return Diagnosis("ok", "python", f"{version} in {sys.prefix}")


def libraries() -> Diagnosis:
    """Return whether torch and torchvision are a pair whose compiled parts fit each other."""
    try:
        versions = {name: metadata.version(name) for name in ("torch", "torchvision")}
    except metadata.PackageNotFoundError as error:
        return Diagnosis("error", "libraries", f"{error.name} is not installed", "make install")
    pair = ", ".join(f"{name} {version}" for name, version in versions.items())
    try:
        import torch
        import torchvision  # type: ignore[import-untyped]

        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        torchvision.ops.nms(boxes, torch.ones(1), 0.5)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        found = f"{pair}: {str(error).splitlines()[0]}"
        return Diagnosis("error", "libraries", found, "install both from constraints.txt: make install")
    return Diagnosis("ok", "libraries", pair)


def gpu() -> Diagnosis:
    """Return which GPUs torch can use, and whether there are some that it can't."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return Diagnosis("ok", "gpu", ", ".join(f"{p.name} ({p.total_memory / GIB:.0f} GiB)" for p in names))
    driver = _driver_gpus()
    if driver:
        built = torch.version.cuda or "no CUDA"
        remedy = "install a driver that is new enough for this torch, or a torch that is built for CUDA"
        return Diagnosis("error", "gpu", f"{driver} is here, but torch (built for {built}) can't use it", remedy)
    return Diagnosis("warning", "gpu", "none: training runs on the CPU", "small recipes and images train well enough")


def _driver_gpus() -> str:
    """Return the GPUs that NVIDIA's driver sees; empty where there is none."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return ""
    try:
        command = [tool, "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ", ".join(done.stdout.split("\n")).strip(", ") if done.returncode == 0 else ""


def memory() -> Diagnosis:
    """Return whether there is memory enough for Ray and one training run."""
    total, free = total_bytes() / GIB, free_bytes() / GIB
    found = f"{total:.0f} GiB, {free:.0f} GiB free; {os.cpu_count()} CPUs"
    if total < ENOUGH_MEMORY_GIB:
        return Diagnosis("warning", "memory", found, "Ray and one run take about 3 GiB: --local takes less")
    return Diagnosis("ok", "memory", found)


def shared_memory(path: Path = Path("/dev/shm")) -> Diagnosis:
    """Return whether Ray's object store fits into shared memory; where it doesn't, Ray uses files and is slow."""
    try:
        free = shutil.disk_usage(path).free / GIB
    except OSError:
        return Diagnosis("warning", "shared memory", f"no {path}", "Ray will use files in /tmp, which is slower")
    if free < ENOUGH_SHM_GIB:
        remedy = "give a container more: docker run --shm-size=4g, or a memory-backed volume at /dev/shm"
        return Diagnosis("warning", "shared memory", f"{free:.1f} GiB free in {path}", remedy)
    return Diagnosis("ok", "shared memory", f"{free:.0f} GiB free in {path}")


def token() -> Diagnosis:
    """Return whether Ray's token, which lets its holder run any code on the cluster, can be read by its owner only."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Diagnosis("ok", "token", "in RAY_AUTH_TOKEN")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or home() / ".ray" / "auth_token")
    return examine_token(path) or Diagnosis("ok", "token", f"{path} is private")


def examine_token(path: Path) -> Diagnosis | None:
    """Return what is wrong with a token file; None where it is private and not empty."""
    make = f"(umask 077; mkdir -p {path.parent}; openssl rand -hex 32 > {path})"
    try:
        mode, size = path.stat().st_mode & 0o777, path.stat().st_size
    except OSError as error:
        return Diagnosis("warning", "token", f"{path}: {error.strerror}", f"the first run makes it; or: {make}")
    if mode & 0o077:
        found = f"{path} has mode {mode:04o}: others on this machine can read it"
        return Diagnosis("error", "token", found, f"chmod 600 {path}")
    return None if size else Diagnosis("error", "token", f"{path} is empty", make)


def code() -> Diagnosis:
    """Return which code this is."""
    known = code_revision.code_revision()
    if "revision" in known:
        changed = ", changed since" if known["changed"] else ""
        return Diagnosis("ok", "code", f"commit {known['revision'][:12]}{changed}; digest {known['digest']}")
    found = f"commit unknown; digest {known['digest']}"
    return Diagnosis("warning", "code", found, "keep it by `python -m sisr.disk.code_revision` before copying")


def stamp() -> Diagnosis:
    """Return whether code that is copied from here without its `.git` would still know its commit."""
    if code_revision.stamp_fits():
        which = "which commit" if "revision" in code_revision.code_revision() else "which code, of no known commit,"
        return Diagnosis("ok", "stamp", f"{code_revision.STAMP.name} says {which} the nodes get")
    found = f"{code_revision.STAMP} is not there, or of other code: the nodes will not know their commit"
    return Diagnosis("warning", "stamp", found, "python -m sisr.disk.code_revision, before `ray up`")


def disks(places: dict[str, Path]) -> Iterator[Diagnosis]:
    """Yield whether each place can be written and has room."""
    for name, place in places.items():
        there = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
        if not os.access(there, os.W_OK):
            yield Diagnosis("error", f"disk ({name})", f"{place} can't be written", "choose another folder")
            continue
        free = shutil.disk_usage(there).free / GIB
        found = f"{free:.0f} GiB free at {place}"
        if free < ENOUGH_DISK_GIB:
            level: Level = "error" if free < LEAST_DISK_GIB else "warning"
            remedy = f"free some: a run's checkpoints and packed images take up to {ENOUGH_DISK_GIB} GiB"
            yield Diagnosis(level, f"disk ({name})", found, remedy)
        else:
            yield Diagnosis("ok", f"disk ({name})", found)
