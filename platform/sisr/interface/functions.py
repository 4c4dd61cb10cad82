"""The verbs as functions: `from sisr import train, tune, evaluate, compare, upscale`.

Each takes the options of its verb by their names in Python (`allow_changes=True` is `--allow-changes`), of which the
signatures name the usual ones; `verbose=True` shows what the verb prints. Errors are those of `sisr.errors`. Ctrl-C, a
notebook's stop button, saves a run and raises `StoppedError`: the same call goes on.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sisr.interface.call import call
from sisr.interface.results import Compared, Evaluated, Searched, Trained, Upscaled


def train(
    recipe: str | None = None,
    data: str | Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    verbose: bool = False,
    **others: Any,
) -> Trained:
    """Train a recipe on images to its end, or go on with the run, as `sisr train`.

    >>> run = train("pixelshuffle", "photos", settings={"steps": 4}, name="first", local=True)
    >>> run.metrics["psnr_y"] > 0
    True

    Args:
        recipe: Its name or file; None: that of the run which `from_` names.
        data: Folder of images, or another source; None: those of that run, else the bundled ones.
        settings: Of the recipe, as `--set`.
        options: How it is run, as `--option`.
        verbose: Show what the verb prints.
        others: Of the verb, such as `workers=2`, `local=True`, `init="other_run"`, `runs="runs"`, or
            `validation={"set5": "Set5", "faces": "pairs:HR,LR"}`: sets that are measured, too.

    Raises:
        ConfigError: A setting or option can't be used.
        DataError: The images can't be used.
        StoppedError: It was asked to stop, and has saved its state.
        DivergedError: Its numbers can't recover.
    """
    given = {"data": data, "set": settings, "option": options, **others}
    status, printed = call("train", [recipe] if recipe else [], given, verbose=verbose)
    return Trained(status["run"], Path(status["folder"]), status, printed)


def tune(
    recipe: str | None = None,
    data: str | Path | None = None,
    *,
    trials: int | None = None,
    space: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    verbose: bool = False,
    **others: Any,
) -> Searched:
    """Search a recipe's hyperparameters to the end, or go on with the sweep, as `sisr tune`.

        sweep = tune("encdec_gan", "photos", trials=8, steps=300, space={"learning_rate": "loguniform(1e-4, 1e-2)"})
        train("encdec_gan", "photos", config=sweep.best)

    Args:
        recipe: Its name or file; None: that of the run which `from_` names.
        data: Folder of images, or another source; None: those of that run, else the bundled ones.
        trials: Points of the space to try.
        space: What is searched, as `--space`; None: the recipe's own space.
        settings: That are fixed, as `--set`.
        options: How trials run, as `--option`.
        verbose: Show what the verb prints.
        others: Of the verb, such as `scheduler="asha"`, `concurrency=2`, `from_="first"`.

    Raises:
        SisrError: As `train`.
    """
    given = {"data": data, "trials": trials, "space": space, "set": settings, "option": options, **others}
    result, printed = call("tune", [recipe] if recipe else [], given, verbose=verbose)
    folder = Path(result["folder"])
    return Searched(folder.name, folder, result, printed)


def evaluate(
    *models: str | Path,
    data: str | Path = "demo",
    metrics: str | Sequence[str] = "",
    verbose: bool = False,
    **others: Any,
) -> Evaluated:
    """Measure models on images under a named protocol, as `sisr evaluate`.

    >>> found = evaluate("bicubic", data="photos", scale=2, perceptual="none")
    >>> sorted(found.mean["bicubic"])
    ['psnr_rgb', 'psnr_y', 'ssim_rgb', 'ssim_y']

    Args:
        models: Runs, model folders, weights files, `models:/...` or `bicubic`.
        data: Folder of HR images, or another source.
        metrics: Further ones, such as `dists,niqe`.
        verbose: Show what the verb prints.
        others: Of the verb, such as `protocol="y"`, `self_ensemble=True`.

    Raises:
        SisrError: A model, an option or the images can't be used.
    """
    wanted = metrics if isinstance(metrics, str) else ",".join(metrics)
    given = {"data": data, "metrics": wanted, **others}
    measurements, printed = call("evaluate", [str(model) for model in models], given, verbose=verbose)
    return Evaluated(measurements, printed)


def compare(
    *models: str | Path,
    data: str | Path = "demo",
    against: str | None = None,
    verbose: bool = False,
    **others: Any,
) -> Compared:
    """Compare models on the same images, and write a page, as `sisr compare`.

        compare("first", "second", data="photos", against="bicubic").verdicts

    Args:
        models: Two or more, as `evaluate` takes them.
        data: Folder of HR images, or another source.
        against: The model that the others are compared with; None: the first.
        verbose: Show what the verb prints.
        others: Of the verb, such as `metrics="dists"`, `log=False`.

    Raises:
        SisrError: A model, an option or the images can't be used.
    """
    given = {"data": data, "against": against, **others}
    comparison, printed = call("compare", [str(model) for model in models], given, verbose=verbose)
    return Compared(comparison, printed)


def upscale(
    image: str | Path,
    model: str | Path,
    output: str | Path | None = None,
    *,
    verbose: bool = False,
    **others: Any,
) -> Upscaled | list[Upscaled]:
    """Enlarge an image file, or all images of a folder, as `sisr upscale`; a notebook shows the result.

    >>> large = upscale("photos/0.png", "bicubic", "large.png", scale=2)
    >>> large.open().size
    (128, 128)

    Args:
        image: A file, or a folder: then a list is returned.
        model: As `evaluate` takes it.
        output: File or folder to write; None: beside the input.
        verbose: Show what the verb prints.
        others: Of the verb, such as `overwrite=True`, `tile=256`.

    Raises:
        SisrError: The model, an option or an image can't be used.
    """
    given = {"model": model, "output": output, **others}
    result, printed = call("upscale", [str(image)], given, verbose=verbose)
    found = [Upscaled(Path(facts["output"]), facts, printed) for facts in result["images"]]
    return found if Path(image).is_dir() else found[0]
