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

Search = Literal["random", "grid", "tpe"]
Measures = tuple[tuple[str, Mode], ...]  # metrics, and where better lies


class Plan(Settings):
    """Everything that decides which trials there are and how far each of them gets."""

    format: Literal[2] = 2
    name: str
    recipe: str
    recipe_source: str = ""  # of a recipe that is not ours: its file's text
    fixed: dict[str, Any] = {}  # settings of the recipe that no trial varies, `steps` among them
    space: dict[str, Any]  # by setting: {operator: arguments}, as in the search space's file
    objective: tuple[str, ...] = Field(min_length=1, max_length=2)  # metrics of a validation
    mode: tuple[Mode, ...] = Field(min_length=1, max_length=2)
    trials: int = Field(ge=1)
    search: Search = "random"
    scheduler: str = "asha"
    scheduler_options: dict[str, Any] = {}  # those that are not the scheduler's defaults
    steps: int = Field(ge=1)  # of a trial that goes all the way
    seed: int = Field(0, ge=0)  # of the search; the trials' own seed is among `options`
    options: dict[str, Any] = {}  # how trials run: `sisr.training.run.Options`
    data: str
    validation: str | None = None
    fingerprint: str = ""  # of the images

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

    def hash(self, free: Collection[str]) -> str:
        """Return 8 hexadecimal digits that differ where anything but the `free` options makes another sweep."""
        content = self.model_dump(mode="json", exclude={"format", "name", "trials", "data", "validation"})
        content["options"] = {name: value for name, value in self.options.items() if name not in free}
        return _digest(content)

    @property
    def hash_1(self) -> str:
        """The hash that format 1 gave the same plan: sweeps without a name were named by it."""
        content = self.model_dump(mode="json", exclude={"format", "name", "trials", "scheduler_options"})
        return _digest(content | {"rungs": [], "interval": None, **self.scheduler_options})


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
