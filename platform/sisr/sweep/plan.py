"""What a sweep is to do, recorded in `sweep.json` before its first trial."""

import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from sisr.config.settings import Settings, build
from sisr.disk import atomic
from sisr.disk.sweep_folder import FILE
from sisr.errors import CheckpointError
from sisr.metrics.catalogue import SCORE, Mode
from sisr.sweep.earlier import Earlier

Measures = tuple[tuple[str, Mode], ...]  # metrics, and where better lies


# Fields that plans once did not have.
LATER = ("search_options", "init_sha256", "init_partly", "init_judge_sha256", "learn_from", "constraints")


class Plan(Settings):
    """Everything that decides which trials there are and how far each of them gets."""

    format: Literal[2] = 2
    name: str
    recipe: str
    recipe_source: str = ""  # of a recipe that is not ours: its file's text
    fixed: dict[str, Any] = {}  # settings of the recipe that no trial varies, `steps` among them
    cheap: tuple[str, ...] = ()  # those of them that only make trials cheap: a full run has the recipe's own
    full: dict[str, Any] = {}  # settings of presets or of another run that a full run has instead of cheap ones
    space: dict[str, Any]  # by setting: {operator: arguments}, as in the search space's file
    constraints: tuple[str, ...] = ()  # conditions between settings that hold in every trial
    objective: tuple[str, ...] = Field(min_length=1, max_length=2)  # metrics of a validation
    mode: tuple[Mode, ...] = Field(min_length=1, max_length=2)
    trials: int = Field(ge=1)
    search: str = "random"  # ours (`sisr.sweep.searchers`), or the name of a searcher of Ray Tune
    search_options: dict[str, Any] = {}  # of such a searcher
    scheduler: str = "asha"
    scheduler_options: dict[str, Any] = {}  # those that are not the scheduler's defaults
    steps: int = Field(ge=1)  # of a trial that goes all the way
    seed: int = Field(0, ge=0)  # of the search; the trials' own seed is among `options`
    options: dict[str, Any] = {}  # how trials run: `sisr.training.run.Options`
    data: str
    validation: str | None = None
    fingerprint: str = ""  # of the images
    validation_sets: dict[str, str] = {}  # by name: further held-out images that trials are measured on
    validation_fingerprints: dict[str, str] = {}  # of their images, by name
    init: str | None = None  # what every trial's first weights were called; None: random
    init_sha256: str = ""  # of those weights
    init_partly: bool = False  # those of them that fit
    init_judge: str | None = None  # what every trial's judge's first weights were called
    init_judge_sha256: str = ""
    learn_from: tuple[str, ...] = ()  # names of earlier sweeps
    earlier: tuple[Earlier, ...] = ()  # what was known of their trials when this sweep began

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.mode) != len(self.objective):
            raise ValueError(f"mode must name max or min for each of {', '.join(self.objective)}")
        return self

    @property
    def measures(self) -> Measures:
        """The objectives with their modes."""
        return tuple(zip(self.objective, self.mode, strict=True))

    @property
    def rank_metric(self) -> tuple[str, Mode]:
        """The one metric that trials are ranked by while the sweep runs, and its mode."""
        return self.measures[0] if len(self.objective) == 1 else (f"val/{SCORE.name}", SCORE.mode)

    @property
    def at_full_size(self) -> dict[str, Any]:
        """Settings of a full run that neither its trials nor the recipe's own values have; `steps` may be one."""
        return {name: value for name, value in self.full.items() if name in ("steps", *self.cheap)}

    def hash(self, free: Collection[str]) -> str:
        """Return 8 hexadecimal digits that differ where anything but the `free` options makes another sweep."""
        content = self._content("data", "validation")
        content["options"] = {name: value for name, value in self.options.items() if name not in free}
        return _digest(content)

    @property
    def hash_1(self) -> str:
        """The hash that format 1 gave the same plan: sweeps without a name were named by it."""
        content = self._content("scheduler_options")
        return _digest(content | {"rungs": [], "interval": None, **self.scheduler_options})

    def _content(self, *others: str) -> dict[str, Any]:
        """Return what makes another sweep; what a plan may lack counts only where it is there."""
        apart = {"format", "name", "trials", "init", "init_judge", "earlier", "cheap", *others}
        apart |= {"full", "validation_sets", "validation_fingerprints"}
        found = self.model_dump(mode="json", exclude=apart)
        return {name: value for name, value in found.items() if name not in LATER or value}


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _from_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """Return a plan of format 1, where the options of two schedulers were the plan's own, in format 2."""
    kept = {name: value for name, value in content.items() if name not in ("rungs", "interval")}
    options = {name: content[name] for name in ("rungs", "interval") if content.get(name)}
    return {**kept, "format": 2, "scheduler_options": options}


def write(folder: Path, plan: Plan, facts: dict[str, Any], changed: Sequence[str] = ()) -> None:
    """Record a plan and `facts` about it, before the first trial, and what was `changed` since an earlier one."""
    path = folder / FILE
    before = json.loads(path.read_text()).get("changed", []) if path.is_file() else []
    atomic.write_json(path, {"sweep": plan.model_dump(mode="json"), **facts, "changed": [*before, *changed]})


def read(folder: Path) -> Plan | None:
    """Return the plan recorded in a folder, or None where there is none.

    Raises:
        CheckpointError: It can't be read; nothing is started anew over it.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())["sweep"]
        return build(Plan, _from_format_1(content) if content.get("format") == 1 else content, source=str(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} can't be read ({error}); restore it, or use another --name") from error
