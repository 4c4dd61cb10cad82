"""Runs as files from which others begin: their recipe, settings, options and images. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sisr import recipes
from sisr.config.yaml import Located, read_yaml
from sisr.disk.run_folder import RECORD
from sisr.errors import ConfigError
from sisr.models import trust
from sisr.recipes.outside import Source

if TYPE_CHECKING:
    from sisr.driver.run.first_weights import FirstWeights


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Images and first weights, as a run's record names them."""

    data: str | None = None
    validation: str | None = None
    validation_sets: dict[str, str] = field(default_factory=dict)
    init: str | None = None
    init_partly: bool = False
    init_judge: str | None = None

    @property
    def source(self) -> str:
        """Where images come from: the bundled photographs, where nobody has said it."""
        return self.data or "demo"

    @property
    def first(self) -> "FirstWeights":
        """What the networks start with; imports torch."""
        from sisr.driver.run.first_weights import FirstWeights

        return FirstWeights(generator=self.init, partly=self.init_partly, judge=self.init_judge)

    def after(self, before: "Inputs | None") -> "Inputs":
        """Return these, and an earlier run's where none are given; sets by name, an empty source drops one."""
        if before is None:
            return self
        sets = {name: spec for name, spec in {**before.validation_sets, **self.validation_sets}.items() if spec}
        return Inputs(
            data=self.data or before.data,
            validation=self.validation or before.validation,
            validation_sets=sets,
            init=self.init or before.init,
            init_partly=self.init_partly or before.init_partly,
            init_judge=self.init_judge or before.init_judge,
        )


@dataclass(frozen=True, kw_only=True)
class Recorded(Inputs):
    """What the record of a run says of what was asked for; named as there."""

    recipe: str
    config: dict[str, Any]
    options: dict[str, Any]
    recipe_source: str = ""


def read(path: Path) -> Recorded:
    """Return what a `run.json` records; raise ConfigError if it is none."""
    try:
        found = json.loads(path.read_text())["run"]
        known = {one.name for one in fields(Recorded)}
        recorded = Recorded(**{name: value for name, value in found.items() if name in known})
        if not isinstance(recorded.config, dict) or not isinstance(recorded.options, dict):
            raise TypeError("config and options must be mappings")
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is no record of a run, such as runs/NAME/{RECORD}: {error}") from None
    return recorded


def recipe_named(recipe: str | None, before: Recorded | None) -> str:
    """Return the recipe that is asked for, or else that of the run before.

    Raises:
        ConfigError: There is neither.
    """
    if recipe is None and before is None:
        raise ConfigError("name a recipe (`sisr recipes` lists them), or a run whose settings to take: --from RUN")
    return recipe or (before.recipe if before else "")


def settings_of(path: Path, recipe: str) -> Located:
    """Return the settings in a file: YAML, or the `run.json` of a run of this recipe.

    Raises:
        ConfigError: It can't be read, or is of another recipe's run.
    """
    if path.suffix != ".json":
        return read_yaml(path)
    recorded = read(path)
    if recorded.recipe != recipe:
        raise ConfigError(f"{path} is of a run of {recorded.recipe}, not of {recipe}")
    return Located(recorded.config, dict.fromkeys(recorded.config, str(path)))


def together(
    before: Recorded | None, source: Source, presets: Sequence[str], config: Path | None, on_line: Mapping[str, Any]
) -> tuple[Located, dict[str, Any]]:
    """Return the settings and options of a run: of an earlier one, presets, a file and the command line.

    Each wins over those that it follows. Settings know their places; options of the command line are not among them.

    Raises:
        ConfigError: There is no such preset, or the file can't be read.
    """
    values, options = recipes.preset(source, presets)
    values = values | (settings_of(config, source.name) if config else {}) | on_line
    if before is None:
        return values, options
    return Located(before.config, {}) | values, before.options | options


def for_trials(recorded: Recorded, asked: str | None) -> Recorded:
    """Return what a sweep's trials take of a recorded run: not how long, how often and by which seed it was run.

    Raises:
        ConfigError: The run is of another recipe than the one `asked` for, or of one that must be named by its file.
    """
    if asked is None and recorded.recipe_source:
        raise ConfigError(
            f"the run of --from has a recipe of its own, {recorded.recipe}: name its file, beside which its "
            "search space lies: sisr tune FILE.py --from ..."
        )
    recipe_of(recorded, asked)
    apart = ("patience", "evaluate_every", "seed")
    return replace(recorded, options={name: v for name, v in recorded.options.items() if name not in apart})


def recipe_of(recorded: Recorded, asked: str | None) -> Source:
    """Return the recipe of a recorded run, or the one that is asked for, which must be the same.

    Raises:
        ConfigError: It is not, or it is code from elsewhere that this user has not named on this machine yet.
    """
    if asked is not None:
        found = recipes.find(asked)
        if found.name != recorded.recipe:
            raise ConfigError(f"--from names a run of {recorded.recipe}, not of {asked}: leave the recipe out")
        return found
    if not recorded.recipe_source:
        return recipes.find(recorded.recipe)
    if not trust.is_trusted(recorded.recipe, recorded.recipe_source):
        raise ConfigError(
            f"the run of --from brings the code of its recipe {recorded.recipe}, which was never named on this "
            "machine: look at it (recipe.py beside run.json), and name it: sisr train FILE.py --from ..."
        )
    return Source(recorded.recipe, recorded.recipe_source, f"{recorded.recipe}.py")
