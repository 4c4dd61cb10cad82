"""Search space files: one YAML per recipe with what a sweep varies, how far, and what it is after.

    objective: val/score                            # or two: [val/psnr_y, val/perceptual]
    trials: 24
    steps: 3000                                     # of a trial that goes all the way
    search: tpe                                     # random, grid or tpe, or one of Ray Tune's, such as hyperopt
    scheduler: asha                                 # or hyperband, pbt, plateau, none
    scheduler_options: {eta: 3}                     # of the scheduler; left out: its defaults
    fixed: {num_features: 32}                       # settings that no trial varies, nor the run that follows
    cheap: {pretrain_steps: 300}                    # the same, but a full run has the recipe's own: see `best.yaml`
    space:
      learning_rate: {loguniform: [2e-5, 2e-3]}     # Ray Tune's operators
      adversarial_weight: {choice: [0, 0.001, 0.1]}
      discriminator_learning_rate: {loguniform: [2e-5, 2e-3], when: {adversarial_weight: "> 0"}}
    constraints:                                    # of every trial
      - discriminator_learning_rate <= 4 * learning_rate

The command line replaces any of it: `--space NAME=OPERATOR(ARGUMENTS)`, `--space NAME=` and `--set NAME=VALUE`. What
`--set` fixes, the run that follows keeps.
"""

import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from sisr.config.settings import Located, Settings, build, parse_overrides, read_yaml
from sisr.config.yaml import parse
from sisr.errors import ConfigError
from sisr.metrics.catalogue import Mode, direction
from sisr.sweep.space.check import check
from sisr.sweep.space.objectives import Logged
from sisr.sweep.space.operators import LISTS
from sisr.sweep.space.space import WHEN, SearchSpace

ON_COMMAND_LINE = re.compile(r"(\w+)\s*\((.*?)\)(?:\s*when\s+(.+))?", re.DOTALL)


class SpaceFile(Settings):
    """A search space's file, checked; all but `fixed` is called as in `Plan`."""

    objective: tuple[str, ...] = Field(min_length=1, max_length=2, description="metrics of a validation")
    mode: tuple[Mode, ...] = Field((), description="for each objective; default: what the metric asks for")
    trials: int = Field(ge=1, description="how many points of the space are tried; a grid may have fewer")
    search: str = Field("random", description="how the next point is found")
    search_options: dict[str, Any] = Field({}, description="of a searcher of Ray Tune")
    scheduler: str = Field("asha", description="which trials go on: a name of `sisr.sweep.schedulers`")
    scheduler_options: dict[str, Any] = Field({}, description="of the scheduler")
    steps: int = Field(ge=1, description="of a trial that goes all the way")
    fixed: dict[str, Any] = Field(
        {}, description="settings of the recipe that no trial varies; once read, the cheap too"
    )
    cheap: dict[str, Any] = Field({}, description="such settings that only make trials cheap: no full run has them")
    constraints: tuple[str, ...] = Field((), description="conditions between settings that hold in every trial")
    space: dict[str, Any] = Field(min_length=1, description="{operator: arguments} by setting")

    def plan_fields(self) -> dict[str, Any]:
        """Return what a `Plan` takes over: all of it, `steps` among the fixed settings, too."""
        return self.model_dump() | {"fixed": {**self.fixed, "steps": self.steps}, "cheap": tuple(self.cheap)}


def find(recipe: str, path: Path | None = None) -> Path:
    """Return where a recipe's search space is: `path`, the file beside a recipe's own .py file, or one of ours.

    Raises:
        ConfigError: There is none.
    """
    if path is not None:
        return path
    if recipe.endswith(".py"):
        found = Path(recipe).with_suffix(".yaml")
        expected = f"{found}, beside the recipe"
    else:
        found = Path(str(resources.files("sisr.search_spaces"))) / f"{recipe}.yaml"
        expected = str(found)
    if not found.is_file():
        raise ConfigError(f"recipe '{recipe}' has no search space: write {expected}, or give a file by --search-space")
    return found


def load(
    path: Path,
    config: type[Settings],
    *,
    options: Mapping[str, Any] | None = None,
    space: Iterable[str] = (),
    settings: Iterable[str] = (),
    base: Mapping[str, Any] | None = None,
    logged: Logged = Logged(),  # noqa: B008  # frozen
) -> tuple[SpaceFile, SearchSpace]:
    """Return a file's content and its search space, with the command line's changes, after every check.

    Args:
        path: A YAML file.
        config: Of the recipe.
        options: What replaces the file's `trials`, `search`, `objective` and so on; None leaves it.
        space: Texts of `--space`.
        settings: Texts of `--set`.
        base: Settings of presets or another run: all trials have them, but for those that are searched or cheap.
        logged: What trials can be compared by.

    Raises:
        ConfigError: Something can't work; one line for each mistake, with file and line or option.
    """
    written = override(read_yaml(path), options or {}, space, settings)
    written = _with_cheap(_based(written, base or {}, parse_overrides(settings)))
    file = build(SpaceFile, _normal(written), source=str(path))
    return file, check(file, written, config, source=str(path), logged=logged)


def place_of(path: Path, name: str, options: Mapping[str, Any]) -> str:
    """Return file and line of a file's `name`; nothing where an option replaces it, or the file leaves it out."""
    return "" if options.get(name) is not None else read_yaml(path).where.get(name, "")


def override(written: Located, options: Mapping[str, Any], space: Iterable[str], settings: Iterable[str]) -> Located:
    """Return a file's content with the command line's changes.

    Raises:
        ConfigError: A text of `--space` or `--set` can't be read, or contradicts another.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "objective" in given and "mode" not in given:  # the file's mode was for the file's objective
        written = _without(written, ["mode"])
    swept, fixed = _operators(space), parse_overrides(settings)
    if both := [name for name in swept if name in fixed]:
        raise ConfigError(f"--space {both[0]} and --set {both[0]} contradict each other: leave out one of them")
    # A block that is no mapping is reported later.
    blocks = (written.get(name) for name in ("space", "fixed", "cheap"))
    in_space, in_fixed, in_cheap = (block if isinstance(block, Located) else Located({}, {}) for block in blocks)
    for name, value in swept.items():
        if value is None and name not in in_space:
            raise ConfigError(f"--space {name}= removes nothing; swept are {', '.join(in_space) or 'none'}")
    kept = _without(in_space, [*fixed, *swept]) | _placed("--space", {n: v for n, v in swept.items() if v is not None})
    changed: dict[str, Any] = {}
    if swept or fixed:
        changed = {"space": kept, "fixed": _without(in_fixed, swept) | _placed("--set", fixed)}
        changed |= {"cheap": _without(in_cheap, [*fixed, *swept])} if in_cheap else {}
    places = {name: written.where[name] for name in changed if name in written.where}
    return written | Located(changed, places) | Located(given, {name: f"--{name}" for name in given})


def _based(written: Located, base: Mapping[str, Any], given: Mapping[str, Any]) -> Located:
    """Return a file's content with a `base` fixed, but for settings that are searched, cheap or `given` by --set."""
    apart = {"steps", *given, *(written.get("space") or ()), *(written.get("cheap") or ())}
    kept = {name: value for name, value in base.items() if name not in apart}
    if not kept:
        return written
    fixed = written.get("fixed") or Located({}, {})
    if not isinstance(fixed, Located):  # no mapping, which is reported later
        return written
    places = {name: getattr(base, "where", {}).get(name, "--from") for name in kept}
    place = {"fixed": written.where.get("fixed", next(iter(places.values())))}
    return written | Located({"fixed": fixed | Located(kept, places)}, place)


def _with_cheap(written: Located) -> Located:
    """Return a file's content with its cheap settings among the fixed, too: trials know no difference.

    Raises:
        ConfigError: A setting stands under both.
    """
    cheap, fixed = written.get("cheap"), written.get("fixed") or Located({}, {})
    if not isinstance(cheap, Located) or not isinstance(fixed, Located):  # none, or no mapping, which is reported later
        return written
    if both := [name for name in cheap if name in fixed]:
        raise ConfigError(f"{cheap.where[both[0]]}: cheap.{both[0]}: is fixed, too; leave out one of them")
    place = {"fixed": written.where.get("fixed", written.where["cheap"])}
    return written | Located({"fixed": fixed | cheap}, place)


def _operators(texts: Iterable[str]) -> dict[str, dict[str, Any] | None]:
    """Return {operator: arguments} of several `--space`, by setting; None: not swept."""
    found: dict[str, dict[str, Any] | None] = {}
    for text in texts:
        name, equals, described = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise ConfigError(f"--space wants NAME=OPERATOR(ARGUMENTS), or NAME= to sweep it no longer, got '{text}'")
        if name in found:
            raise ConfigError(f"--space {name} is given twice")
        found[name] = _operator(name, described) if described else None
    return found


def _operator(name: str, described: str) -> dict[str, Any]:
    """Return {operator: arguments} of a text such as "loguniform(1e-5, 1e-3)"."""
    match = ON_COMMAND_LINE.fullmatch(described)
    if not match:
        raise ConfigError(
            f"--space {name} wants OPERATOR(ARGUMENTS), such as loguniform(1e-5, 1e-3), got '{described}'; "
            f"one value for all trials: --set {name}=VALUE"
        )
    operator, inside, when = match.groups()
    arguments = parse(f"[{inside}]", f"--space {name}")
    if operator in LISTS and len(arguments) == 1 and isinstance(arguments[0], list):  # choice([1, 2]), as in Python
        arguments = arguments[0]
    return {operator: arguments} | ({WHEN: when} if when else {})


def _normal(written: Located) -> Located:
    """Return a file's content with every text that stands for a list of one as that, and no empty block."""
    texts = [name for name in ("objective", "mode", "constraints") if isinstance(written.get(name), str)]
    changed: dict[str, Any] = {name: [written[name]] for name in texts}
    changed |= {name: {} for name in ("fixed", "cheap") if written.get(name, 0) is None}  # all its lines are comments
    if "mode" not in written:
        objectives = changed.get("objective", written.get("objective"))
        changed["mode"] = [direction(str(name)) for name in objectives] if isinstance(objectives, list) else []
    return written | Located(changed, {name: written.where[name] for name in changed if name in written.where})


def _placed(option: str, values: Mapping[str, Any]) -> Located:
    return Located(values, {name: f"{option} {name}" for name in values})


def _without(block: Located, names: Iterable[str]) -> Located:
    dropped = set(names)
    kept = {name: value for name, value in block.items() if name not in dropped}
    return Located(kept, {name: block.where[name] for name in kept if name in block.where})
