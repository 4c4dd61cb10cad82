"""What several verbs are asked: one name, one text, one search. Imports little, so that help is quick."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sisr.config.wording import did_you_mean
from sisr.data.sources import ACCEPTED
from sisr.disk.cache import expanded
from sisr.driver.run.again import Inputs
from sisr.errors import ConfigError
from sisr.metrics.catalogue import FURTHER_MEANING, find
from sisr.pipelines._completion import perceptuals
from sisr.storage import ownership
from sisr.storage.address import runs_folder
from sisr.terminal.console import note

RECIPES = (
    "Recipe file, or dotted module, whose code a model from elsewhere may run; repeatable. Its SHA-256 must be the one "
    "that the model was saved with. What was trained on this machine needs none."
)
PROTOCOL = "rgb8: LR and SR are 8-bit RGB. y: luma alone, LR kept in double."
PERCEPTUAL = (
    "auto, none, lpips, vgg, swd, or a VGG-19 weights file; less is better. auto: the first whose weights are here."
)
METRICS = f"Further ones, such as dists,niqe: {FURTHER_MEANING}. What can't be measured is said, and left out."
TRACKING_URI = "MLflow's server or database; default: MLFLOW_TRACKING_URI, else as before, else a file in --runs."
HR_IMAGES = (
    "Folder of HR images (all of it; of one that a model was trained on, what its run held out), the same of "
    "pairs:HR_FOLDER,LR_FOLDER, one image file, or another source, such as div2k:PATH (its held-out images)."
)
TRAINING_IMAGES = f"{ACCEPTED}, or where `sisr pack --publish` has put packed images."
PRECISION = (
    "auto, fp32, bf16 or fp16. auto: bf16 where the device is faster in it and the first image's middle comes out the "
    "same, to one grey level in 99.9 % of its values."
)
OUTPUT_SCALE = "Bring what the model makes to this scale by bicubic interpolation, such as a 4x model's images to 2."
SELF_ENSEMBLE = "Average what the model makes of the image's eight turns and flips: better, eight times slower."
HELD_OUT = "Folder of held-out images (of pairs: pairs:HR_FOLDER,LR_FOLDER); default: split from --data."
VALIDATION = (
    f"{HELD_OUT} NAME=PATH is a further set, named freely, that is measured, too, and decides nothing: any source that "
    "--data takes, a folder or pairs whole, of others what they hold out. Repeatable."
)
SET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")

RUNS = "Folder, or s3://BUCKET/PATH, that holds all runs and sweeps."
Runs = Annotated[Path, typer.Option(help=RUNS, parser=runs_folder, metavar="FOLDER")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
TrackingUri = Annotated[str | None, typer.Option(help=TRACKING_URI)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
Recipes = Annotated[list[str] | None, typer.Option(help=RECIPES)]

# Of verbs that use models.
InferencePrecision = Annotated[Literal["auto", "fp32", "bf16", "fp16"], typer.Option("--precision", help=PRECISION)]
OutputScale = Annotated[int | None, typer.Option(min=1, help=OUTPUT_SCALE)]
SelfEnsemble = Annotated[bool, typer.Option("--self-ensemble", help=SELF_ENSEMBLE)]

# Of verbs that judge models.
HrImages = Annotated[str, typer.Option(help=HR_IMAGES)]
Scale = Annotated[int | None, typer.Option(min=1, help="HR side / LR side; default: the models' own, else 4.")]
ProtocolName = Annotated[str, typer.Option(help=PROTOCOL)]
Metrics = Annotated[str, typer.Option(help=METRICS)]
Perceptual = Annotated[str, typer.Option(help=PERCEPTUAL, autocompletion=perceptuals)]


def say_if_demo(data: str) -> None:
    """Say on which images models are judged, where nobody has named any."""
    if data == "demo":
        note("judged on the held-out photographs of the bundled demo; --data names others")


def validation_of(texts: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """Return the run's own held-out images, None where they are not named, and further validation sets by name.

    A text without a name in front of `=`, or one that is a folder's path as it is, names the own ones.

    Raises:
        ConfigError: A name can't be used, or one is given twice.
    """
    own, sets = list[str](), dict[str, str]()
    for text in texts:
        name, equals, spec = text.partition("=")
        if not equals or not re.fullmatch(r"[^/:]*", name) or expanded(text).is_dir():
            own.append(text)
            continue
        if not SET_NAME.fullmatch(name) or find(name):
            raise ConfigError(
                f"--validation {text}: a set can't be called '{name}': letters, digits, '_' and '-', at most 32, a "
                "letter first, and no name of a metric"
            )
        if name in sets:
            raise ConfigError(f"--validation {name} is given twice")
        sets[name] = spec
    if len(own) > 1:
        raise ConfigError(
            f"--validation {own[1]}: the run's own held-out images are {own[0]} already; further sets have names, "
            f"such as --validation set5={own[1]}"
        )
    return next(iter(own), None), sets


def inputs_of(
    data: str | None,
    validation: Sequence[str] | None,
    init: str | None,
    init_partly: bool,
    init_judge: str | None,
    before: Inputs | None,
) -> Inputs:
    """Return images and first weights as options name them, and where they don't those of a run `before`."""
    own, sets = validation_of(validation or [])
    return Inputs(
        data=data, validation=own, validation_sets=sets, init=init, init_partly=init_partly, init_judge=init_judge
    ).after(before)


def written(value: Any) -> str:
    """Return a value as one writes it behind NAME=."""
    if isinstance(value, dict):
        return str(value.get("kind", "{...}"))
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value).replace(", ", ",")


def folder_of(kind: str, name: str, runs: Path, *files: str) -> Path:
    """Return the folder of the run or sweep called `name`, or at that path or address; it holds one of `files`.

    Raises:
        ConfigError: There is none.
        StorageError: It is in object storage, which does not answer.
    """
    for folder in (ownership.folder_of(name, runs), Path(name)):
        if any((folder / file).is_file() for file in files):
            return folder
    known = sorted(path.parent.name for file in files for path in runs.glob(f"*/{file}"))
    there = f"there are {', '.join(known)}" if known else f"{runs} holds none: name their folder with --runs"
    raise ConfigError(f"no {kind} '{name}' in {runs}, and no folder of that name; {did_you_mean(name, known) or there}")
