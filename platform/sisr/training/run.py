"""One execution of a recipe: what it is, recorded before step 0, and the folder that holds all of it."""

import fcntl
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

import sisr
import sisr.errors
from sisr import recipes
from sisr.config import Settings, build
from sisr.errors import CheckpointError, ConfigError, DiskError, RunLockedError, SisrError
from sisr.recipe import Recipe

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Precision = Literal["auto", "fp32", "bf16", "fp16", "fp64"]
LIBRARIES = ("torch", "torchvision", "ray", "mlflow", "numpy", "pillow")


class Options(Settings):
    """How a recipe is executed; what is learned is the recipe's own `Config`."""

    seed: int = Field(0, ge=0, lt=2**63, description="of the weights, batches and every other random number")
    precision: Precision = Field(
        "auto", description="of the arithmetic; auto: bf16 where the hardware has it, else fp32"
    )
    accumulate: int = Field(1, ge=1, description="micro-batches per step and worker, to save memory")
    clip_norm: float | None = Field(
        None, gt=0, description="largest L2 norm of a network's gradient; null: not clipped"
    )
    ema_half_life_images: float = Field(
        5000, ge=0, description="half-life of the averaged generator, in images; 0: off"
    )
    channels_last: bool = Field(True, description="memory layout; the faster one for convolutions on CPUs and GPUs")
    compile: bool = Field(False, description="compile the networks: a minute at the start, faster steps after")
    threads: int | None = Field(None, ge=1, description="CPU threads per worker; null: its share of the cores")
    evaluate_every: int = Field(
        500, ge=1, description="steps from one validation, sample picture and checkpoint to the next"
    )
    log_every: int = Field(20, ge=1, description="steps from one line of metrics to the next")
    keep_checkpoints: int = Field(2, ge=2, description="newest checkpoints kept, besides the best one")
    validation_side: int = Field(256, ge=16, description="px; larger validation images are cut to their centre")
    sample_rows: int = Field(4, ge=1, le=16, description="validation images in each sample picture")


# What may change between two executions of one run: the run goes on, only longer or watched more closely.
FREE_OPTIONS = {"evaluate_every", "log_every", "keep_checkpoints", "threads", "sample_rows"}
FREE_CONFIG = {"steps"}


class Run(Settings):
    """One execution: everything needed to repeat it on another machine."""

    format: Literal[1] = 1
    name: str
    recipe: str
    config: dict[str, Any]  # every field of the recipe's Config
    options: Options
    data: str  # where images come from, as data.sources understands it
    validation: str | None = None  # another folder of held-out images; None: split from `data`
    fingerprint: str = ""  # of the packed training and validation images

    @property
    def config_hash(self) -> str:
        """Return 8 hexadecimal digits that differ where anything differs that makes another run."""
        config = {name: value for name, value in self.config.items() if name not in FREE_CONFIG}
        options = self.options.model_dump(exclude=FREE_OPTIONS)
        content = {"recipe": self.recipe, "config": config, "options": options, "data": self.fingerprint}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    def build_recipe(self) -> Recipe:
        """Return the recipe with new networks and optimizers."""
        return recipes.load(self.recipe).Recipe(self.recipe_config())

    def recipe_config(self) -> Any:
        """Return the recipe's validated `Config`."""
        return build(recipes.load(self.recipe).Config, self.config, source="run.json")


def check_name(name: str) -> str:
    """Return a run's name if it is safe as a folder's name.

    Raises:
        ConfigError: It holds anything but letters, digits, '.', '_' and '-', or starts with a dot.
    """
    if not NAME.fullmatch(name) or ".." in name:
        raise ConfigError(
            f"run name {name!r} can't be used: letters, digits, '.', '_' and '-' only, at most 64, no '..', "
            "and a letter or digit first"
        )
    return name


class RunFolder:
    """The folder of one run; the only place that knows its file names."""

    def __init__(self, path: Path) -> None:
        """Point at a run's folder, which need not exist yet."""
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.model = path / "model"
        self.best = path / "best.json"
        self._stop = path / ".stop"
        self._warnings = path / "warnings.log"
        self._failure = path / ".failure.json"

    def read(self) -> Run | None:
        """Return the run recorded here, or None where there is none."""
        path = self.path / "run.json"
        if not path.is_file():
            return None
        try:
            return build(Run, json.loads(path.read_text())["run"], source=str(path))
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"{path} can't be read ({error}); restore it, or use another run name") from error

    def record(self, run: Run, extra: dict[str, Any]) -> None:
        """Write down the run, and `extra` facts about its data, before step 0."""
        self.path.mkdir(parents=True, exist_ok=True)
        facts = {"run": run.model_dump(), "versions": versions(), "code": code_revision(), **extra}
        write_json(self.path / "run.json", {**facts, "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})

    def write_status(self, **fields: Any) -> None:
        """Replace the run's status: state, step, rates, losses, last validation."""
        write_json(self.path / "status.json", fields)

    def status(self) -> dict[str, Any]:
        """Return the last status, or an empty dict."""
        try:
            return dict(json.loads((self.path / "status.json").read_text()))
        except (OSError, ValueError):
            return {}

    def request_stop(self) -> None:
        """Ask the run to save its state and end at the next step; safe in a signal handler."""
        self._stop.touch()

    def stop_requested(self) -> bool:
        """Return whether the run was asked to end."""
        return self._stop.exists()

    def clear_stop(self) -> None:
        """Forget an earlier request to stop."""
        self._stop.unlink(missing_ok=True)

    def warn(self, text: str) -> None:
        """Say something to the user, who does not see what a worker prints."""
        with open(self._warnings, "a") as file:
            file.write(" ".join(text.split()) + "\n")

    def warnings(self) -> list[str]:
        """Return everything said so far."""
        return self._warnings.read_text().splitlines() if self._warnings.exists() else []

    def report_failure(self, error: SisrError) -> None:
        """Leave the reason why a worker ends, for its peers and its driver; the first one counts."""
        with suppress(FileExistsError), open(self._failure, "x") as file:
            json.dump({"type": type(error).__name__, "message": str(error)}, file)

    def failure(self) -> SisrError | None:
        """Return why a worker ended, as it was reported."""
        try:
            found = json.loads(self._failure.read_text())
        except (OSError, ValueError):
            return None
        error: SisrError = getattr(sisr.errors, found["type"], SisrError)(found["message"])
        return error

    def clear_failure(self) -> None:
        """Forget an earlier failure."""
        self._failure.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run while the block executes; the lock is freed by the system however the process ends.

        Raises:
            RunLockedError: Another process holds it; the message names the process.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / ".lock", "a+")  # noqa: SIM115
        except OSError as error:
            reason = error.strerror or str(error)
            raise DiskError(f"can't write runs to {self.path.parent}: {reason}; choose another --runs") from error
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise RunLockedError(
                    f"run {self.path.name} is held by {holder}: wait for it, stop it, or use another --name"
                ) from None
            file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
            file.flush()
            yield


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file atomically: readers see the old content or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    os.replace(temporary, path)


def versions() -> dict[str, str]:
    """Return the versions of what a result may depend on."""
    found = {name: metadata.version(name) for name in LIBRARIES}
    return {"sisr": sisr.__version__, "python": sys.version.split()[0], **found}


def code_revision() -> dict[str, Any]:
    """Return the commit of the installed code and whether it was changed; empty where it is not a checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # or a checkout that only surrounds us would answer
        return {"revision": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def choose_device() -> torch.device:
    """Return this process's device: the current GPU where torch can really use one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
