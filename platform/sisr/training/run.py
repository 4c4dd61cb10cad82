"""One execution of a recipe: what it is, recorded before step 0, and the folder that holds all of it."""

import functools
import hashlib
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any, Literal

import sisr
import sisr.errors
from sisr import recipes
from sisr.config.settings import Settings, build
from sisr.disk import atomic
from sisr.disk.code_revision import code_revision
from sisr.disk.run_folder import RunFolder
from sisr.errors import CheckpointError, ConfigError, SisrError
from sisr.recipe import Recipe, RecipeModule, build_recipe
from sisr.training.eager import leave_out_compiler
from sisr.training.options import Options as Options

FORMAT: Literal[1] = 1  # of the record
LIBRARIES = ("torch", "torchvision", "ray", "mlflow", "numpy", "pillow")


# What may change between two executions of one run: the run goes on, only longer or watched more closely.
FREE_OPTIONS = {"evaluate_every", "log_every", "keep_checkpoints", "threads", "sample_rows", "perceptual", "max_bad"}
FREE_OPTIONS |= {"patience", "checkpoint_activations", "deterministic", "tensorboard", "metrics"}
FREE_CONFIG = {"steps"}
ADDED_CONFIG = {"degradation"}  # settings that 0.1.0 did not have; null: as it was then
ADDED_OPTIONS = {"capture": "none"}  # options that 0.1.0 did not have, with what it did


class Run(Settings):
    """One execution: everything needed to repeat it on another machine."""

    format: Literal[1] = FORMAT
    name: str
    recipe: str
    recipe_source: str = ""  # the recipe's file, where it is not one of ours
    config: dict[str, Any]  # every field of the recipe's Config
    options: Options
    data: str  # where images come from, as data.sources understands it
    validation: str | None = None  # another folder of held-out images; None: split from `data`
    fingerprint: str = ""  # of the packed training and validation images
    validation_sets: dict[str, str] = {}  # by name: where further held-out images come from; learning does not know
    validation_fingerprints: dict[str, str] = {}  # of their packed images, by name
    init: str | None = None  # what the generator's first weights were called; None: random
    init_sha256: str = ""  # of those weights
    init_partly: bool = False  # whether those that fit were taken, and the others left random
    init_judge: str | None = None  # what the judge's first weights were called; None: random
    init_judge_sha256: str = ""  # of those weights

    @property
    def config_hash(self) -> str:
        """Return 8 hexadecimal digits that differ where anything differs that makes another run."""
        unset = {name for name in ADDED_CONFIG if self.config.get(name) is None}
        config = {name: value for name, value in self.config.items() if name not in FREE_CONFIG | unset}
        chosen = self.options.model_dump(exclude=FREE_OPTIONS)
        options = {name: value for name, value in chosen.items() if (name, value) not in ADDED_OPTIONS.items()}
        content = {"recipe": self.recipe, "config": config, "options": options, "data": self.fingerprint}
        extra = {"recipe_source": self.recipe_source, "init": self.init_sha256, "init_judge": self.init_judge_sha256}
        content |= {name: value for name, value in extra.items() if value}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    def build_recipe(self) -> Recipe:
        """Return the recipe with new networks and optimizers."""
        leave_out_compiler()
        return build_recipe(self.recipe_module(), self.recipe_config())

    def recipe_config(self) -> Any:
        """Return the recipe's validated `Config`."""
        return build(self.recipe_module().Config, self.config, source="run.json")

    def recipe_module(self) -> RecipeModule:
        """Return the recipe's module; one from outside is executed from its recorded text."""
        return recipes.load(self.recipe, self.recipe_source)


def read(folder: RunFolder) -> Run | None:
    """Return the run that is recorded in a folder, or None where there is none.

    Raises:
        CheckpointError: The record can't be read.
    """
    if not folder.run.is_file():
        return None
    try:
        found = json.loads(folder.run.read_text())["run"]
        number = found.get("format")
        if number == FORMAT:
            return build(Run, found, source=str(folder.run))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder.run} can't be read ({error}); restore it, or use another run name") from error
    raise CheckpointError(f"{folder.run} has format {number}, this version reads {FORMAT}: use a newer sisr")


def record(folder: RunFolder, run: Run, extra: dict[str, Any], hashes: dict[str, str]) -> None:
    """Write down a new run, `extra` facts about it and the hash of each of its image files, before step 0."""
    record_next(folder, run, extra, hashes)
    take_effect(folder)


def record_next(folder: RunFolder, run: Run, extra: dict[str, Any], hashes: dict[str, str]) -> None:
    """Write down what a run is to be from now on; the record that holds is untouched until `take_effect`."""
    facts = {"run": run.model_dump(), "versions": versions(), "code": code_revision(), **extra, "hashes": hashes}
    atomic.write_json(folder.next_run, {**facts, "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})


def take_effect(folder: RunFolder) -> None:
    """Replace the run's record by what `record_next` has written, if anything; can be repeated after a crash."""
    try:
        facts = json.loads(folder.next_run.read_text())
    except FileNotFoundError:
        return
    folder.record_files(facts.pop("hashes"))
    if source := facts["run"]["recipe_source"]:
        atomic.write_text(folder.path / "recipe.py", source)
    atomic.write_json(folder.run, facts)
    folder.next_run.unlink()


def history(folder: RunFolder) -> list[str]:
    """Return the changes that a run went on with, in words, oldest first."""
    try:
        return list(json.loads(folder.run.read_text()).get("changed", []))
    except (OSError, ValueError):
        return []


# Of errors that pass a recipe's line without being its fault: a peer that left, a device that failed.
OTHERS_FAULTS = re.compile("cuda|nccl|gloo|connection|timed out|out of memory", re.I)


@contextmanager
def explain_recipe_errors(run: Run) -> Iterator[None]:
    """Turn an error that a recipe from outside raises into one for its user, which names file and line.

    Raises:
        ConfigError: The block raised an error in the recipe's own lines.
    """
    try:
        yield
    except SisrError:
        raise
    except Exception as error:
        line = recipes.place_of(error, run.recipe, run.recipe_source)
        if line is None or OTHERS_FAULTS.search(str(error)):
            raise
        raise ConfigError(f"recipe {line}") from error


@functools.cache  # a sweep records them for each trial
def versions() -> dict[str, str]:
    """Return the versions of what a result may depend on."""
    found = {name: metadata.version(name) for name in LIBRARIES}
    return {"sisr": sisr.__version__, "python": sys.version.split()[0], **found}
