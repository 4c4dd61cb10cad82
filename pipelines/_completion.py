"""What a shell may complete: names that are quickly found, without torch. Nothing is said about what is wrong."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import get_args

import typer

from sisr import recipes
from sisr.disk.run_folder import RECORD
from sisr.disk.sweep_folder import FILE
from sisr.errors import SisrError
from sisr.metrics.catalogue import PERCEPTUAL_CHOICES
from sisr.training.options import Options, Precision


def run_names(ctx: typer.Context) -> list[str]:
    """Return the names of all runs in the folder of --runs."""
    return _holding(ctx, RECORD)


def sweep_names(ctx: typer.Context) -> list[str]:
    """Return the names of all sweeps in the folder of --runs."""
    return _holding(ctx, FILE)


def names(ctx: typer.Context) -> list[str]:
    """Return the names of all runs and sweeps in the folder of --runs."""
    return [*run_names(ctx), *sweep_names(ctx)]


def model_names(ctx: typer.Context) -> list[str]:
    """Return the names of all runs, and bicubic."""
    return [*run_names(ctx), "bicubic"]


def preset_names(ctx: typer.Context) -> list[str]:
    """Return the names of the presets of the recipe that stands on the line."""
    # Where the option that is being completed has no value yet, the words before it are not parsed.
    for word in (ctx.params.get("recipe"), *ctx.args):
        with suppress(SisrError):
            return list(recipes.presets(recipes.find(str(word))))
    return []


def precisions() -> Iterable[str]:
    """Return the number formats of training."""
    return list(get_args(Precision))


def options() -> list[str]:
    """Return the options of a run as they begin."""
    return [f"{name}=" for name in Options.model_fields]


def perceptuals() -> list[str]:
    """Return the perceptual distances."""
    return list(PERCEPTUAL_CHOICES)


def _holding(ctx: typer.Context, file: str) -> list[str]:
    return sorted(path.parent.name for path in Path(ctx.params.get("runs") or "runs").glob(f"*/{file}"))
