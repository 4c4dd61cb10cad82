"""One execution of a recipe: what it is, recorded before step 0, and the folder that holds all of it."""

import hashlib
import json
import re
import sys
from importlib import metadata
from typing import Any, Literal

import torch
from pydantic import Field

import sisr
import sisr.errors
from sisr import recipes
from sisr.config import Settings, build
from sisr.errors import ConfigError
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


def versions() -> dict[str, str]:
    """Return the versions of what a result may depend on."""
    found = {name: metadata.version(name) for name in LIBRARIES}
    return {"sisr": sisr.__version__, "python": sys.version.split()[0], **found}


def choose_device() -> torch.device:
    """Return this process's device: the current GPU where torch can really use one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
