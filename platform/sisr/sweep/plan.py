"""What a sweep is to do, recorded in `sweep.json` before its first trial."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from sisr.config.settings import Settings, build
from sisr.disk.sweep_folder import FILE as FILE
from sisr.errors import CheckpointError
from sisr.metrics.catalogue import SCORE
from sisr.metrics.catalogue import Mode as Mode
from sisr.metrics.catalogue import value_of as value_of


class Plan(Settings):
    """Everything that decides which trials there are and how far each of them gets."""

    format: Literal[1] = 1
    name: str
    recipe: str
    recipe_source: str = ""  # of a recipe that is not ours: its file's text
    fixed: dict[str, Any] = {}  # settings of the recipe that no trial varies, `steps` among them
    space: dict[str, Any]  # by setting: {operator: arguments}, as in the search space's file
    objective: tuple[str, ...] = Field(min_length=1, max_length=2)  # metrics of a validation
    mode: tuple[Mode, ...] = Field(min_length=1, max_length=2)
    trials: int = Field(ge=1)
    search: Literal["random", "grid", "tpe"] = "random"
    scheduler: Literal["asha", "pbt", "none"] = "asha"
    rungs: tuple[int, ...] = ()  # asha: steps at which trials are compared, below `steps`
    interval: int | None = Field(None, ge=1, description="pbt: steps from one comparison to the next")
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
        if list(self.rungs) != sorted(set(self.rungs)) or any(not 0 < rung < self.steps for rung in self.rungs):
            raise ValueError(f"rungs must rise and lie between 0 and steps {self.steps}, got {list(self.rungs)}")
        if self.scheduler == "pbt" and self.interval is None:
            raise ValueError("pbt needs an interval")
        return self

    @property
    def hash(self) -> str:
        """Return 8 hexadecimal digits that differ where anything differs that makes another sweep."""
        content = self.model_dump(mode="json", exclude={"format", "name", "trials"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def rank_metric(self) -> tuple[str, Mode]:
        """The one metric that trials are ranked by while the sweep runs, and its mode."""
        return (self.objective[0], self.mode[0]) if len(self.objective) == 1 else (f"val/{SCORE.name}", SCORE.mode)


def write(folder: Path, plan: Plan, facts: dict[str, Any]) -> None:
    """Record a plan and `facts` about it, before the first trial."""
    content = {"sweep": plan.model_dump(mode="json"), **facts}
    unfinished = folder / f".{FILE}"
    unfinished.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    unfinished.replace(folder / FILE)


def read(folder: Path) -> Plan | None:
    """Return the plan recorded in a folder, or None where there is none.

    Raises:
        CheckpointError: It can't be read; nothing is started anew over it.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return build(Plan, json.loads(path.read_text())["sweep"], source=str(path))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} can't be read ({error}); restore it, or use another --name") from error
