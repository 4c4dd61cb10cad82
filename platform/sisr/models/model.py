"""A generator ready for inference, loaded from files that anybody may load: no pickle, no code that is not trusted.

Other people's weights are recognised by the optional package spandrel, by the weights alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sisr import recipes
from sisr.config.settings import build
from sisr.errors import CheckpointError, ConfigError
from sisr.models import files, trust, weights, zoo
from sisr.recipe import Generator, as_generator


@dataclass(frozen=True)
class Model:
    """A generator ready for inference and what is known about it."""

    name: str  # how a table calls it
    generator: Generator  # eval mode, float32
    meta: dict[str, Any]  # config.json: recipe, config, step, metrics, run

    @property
    def scale(self) -> int:
        """The sr side / lr side."""
        return self.generator.tiling.scale


def load_model(path: Path, *, name: str | None = None, allowed: Iterable[str] = ()) -> Model:
    """Return the model saved in the folder `path`, in the one file `path`, or beside the weights file `path`.

    `name` is how a table calls it, else the folder's; `allowed` are recipe files or modules whose code may run besides
    those that this user has trained.

    Raises:
        CheckpointError: A file is missing, damaged, does not fit the recipe's generator, or holds code that is not
            trusted.
        ConfigError: One of `allowed` can't be read.
    """
    folder, file = (path, path / files.WEIGHTS) if path.is_dir() else (path.parent, path)
    config = folder / files.CONFIG
    meta = files.embedded_meta(file)
    source = config if meta is None else path
    if meta is None:
        is_ours = path.is_dir() or (path.suffix.lower() == ".safetensors" and config.is_file())
        if not is_ours:
            found = recognise(path)
            return Model(name or path.stem, zoo.ready(found), {"architecture": found.description})
        meta = files.read_meta(config)
    text = _recipe_text(meta, source, allowed)
    meta |= {"recipe_source": text} if text else {}
    generator = _built(meta, text, source)
    weights.load_weights(generator, weights.read(file), f"{file} does not fit recipe '{meta['recipe']}' as configured")
    return Model(name or folder.name, zoo.ready(generator), meta)


def _built(meta: dict[str, Any], text: str, source: Path) -> Generator:
    """Return the generator, with new weights, that the file `source` describes."""
    name, where = meta["recipe"], str(source.with_name(files.RECIPE) if source.name == files.CONFIG else source)
    try:
        module = recipes.load(name, text, where)
        generator = as_generator(module.generator(build(module.Config, meta["config"], source=str(source))))
    except ConfigError as error:
        raise CheckpointError(f"{source} describes no generator that this version knows: {error}") from error
    except Exception as error:
        if line := recipes.place_of(error, name, text):
            raise CheckpointError(f"{source}: its generator can't be built: recipe {line}") from error
        raise
    if meta["scale"] != generator.tiling.scale:
        raise CheckpointError(f"{source} says scale {meta['scale']}, but its generator's is {generator.tiling.scale}")
    return generator.float().eval()


def _recipe_text(meta: dict[str, Any], source: Path, allowed: Iterable[str]) -> str:
    """Return the code that a model's generator needs, if it may run here; empty for a recipe of ours.

    `source`, which says `meta`, is a model's `CONFIG`, with the code in a file beside it; or a weights file that holds
    both.
    """
    name, digest = meta["recipe"], meta.get("recipe_sha256")
    if digest is None:
        return ""
    named = [recipes.find(spec) for spec in allowed]
    for given in named:
        # A file may have been renamed since; a module that needs its package is found by its name.
        if given.sha256 == digest and (given.name == name or "." not in name):
            return given.text
    beside = source.with_name(files.RECIPE) if source.name == files.CONFIG else None
    text = str(meta.get("recipe_source", "")) if beside is None else files.read_text(beside)
    if files.sha256(text) != digest:
        raise CheckpointError(
            f"{beside or source}: the recipe's code was changed since the model was saved: its SHA-256 is not "
            f"{digest[:12]}..."
        )
    if not trust.is_trusted(name, text):
        others = f" (another than {', '.join(given.where for given in named)})" if named else ""
        code = f"{source.parent} needs the code in {beside}" if beside else f"{source} needs the code of its recipe"
        file = name if "." in name else beside or f"{name}.py, the file of its author's"
        raise CheckpointError(
            f"{code}{others}, which was never trained with on this machine, so it does not run by itself. "
            f"If you trust what it does, say --recipe {file}"
        )
    return text


def recognise(path: Path) -> zoo.Adapted | zoo.Called:
    """Return the network that a weights file belongs to, with these weights; nothing in the file is executed.

    Raises:
        CheckpointError: spandrel is not installed, or does not know such weights, or they are of no RGB upscaler.
    """
    beside = (
        " has no config.json beside it, as a model of sisr's would:" if path.suffix.lower() == ".safetensors" else ""
    )
    return zoo.recognise(weights.read(path), f"{path}{beside}")
