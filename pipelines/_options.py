"""What several verbs are asked: one name, one text, one search. Imports little, so that help is quick."""

from pathlib import Path
from typing import Annotated

import typer

from sisr.config.wording import did_you_mean
from sisr.data.sources import ACCEPTED
from sisr.errors import ConfigError

RECIPES = (
    "Recipe file, or dotted module, whose code a model from elsewhere may run; repeatable. Its SHA-256 must be the one "
    "that the model was saved with. What was trained on this machine needs none."
)
PROTOCOL = "rgb8: LR and SR are 8-bit RGB. y: luma alone, LR kept in double."
PERCEPTUAL = (
    "auto, none, lpips, vgg, swd, or a VGG-19 weights file; less is better. auto: the first whose weights are here."
)
TRACKING_URI = "MLflow's server or database; default: MLFLOW_TRACKING_URI, else as before, else a file in --runs."
HR_IMAGES = (
    "Folder of HR images (all of it), one image file, or another source, such as div2k:PATH (its held-out images)."
)
TRAINING_IMAGES = f"{ACCEPTED}, or where `sisr pack --publish` has put packed images."
HELD_OUT = "Folder of held-out images; default: split from --data."

Runs = Annotated[Path, typer.Option(help="Folder that holds all runs and sweeps.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
TrackingUri = Annotated[str | None, typer.Option(help=TRACKING_URI)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
Recipes = Annotated[list[str] | None, typer.Option(help=RECIPES)]

# Of verbs that judge models.
HrImages = Annotated[str, typer.Option(help=HR_IMAGES)]
Scale = Annotated[int | None, typer.Option(min=1, help="HR side / LR side; default: the models' own, else 4.")]
ProtocolName = Annotated[str, typer.Option(help=PROTOCOL)]
Perceptual = Annotated[str, typer.Option(help=PERCEPTUAL)]


def folder_of(kind: str, name: str, runs: Path, file: str) -> Path:
    """Return the folder of the run or sweep called `name`, or at the path `name`; what holds `file` is of its kind.

    Raises:
        ConfigError: There is none.
    """
    for folder in (runs / name, Path(name)):
        if (folder / file).is_file():
            return folder
    known = sorted(path.parent.name for path in runs.glob(f"*/{file}"))
    there = f"there are {', '.join(known)}" if known else f"{runs} holds none: name their folder with --runs"
    raise ConfigError(f"no {kind} '{name}' in {runs}, and no folder of that name; {did_you_mean(name, known) or there}")
