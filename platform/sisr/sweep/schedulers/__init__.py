"""Schedulers: which trial of a sweep runs next, and how far. One file is one scheduler; its name is the file's.

A file exports `Scheduler`, a settings model whose fields are the scheduler's options. All of them decide by pure
functions of what the ledger records, so that any crash leaves no gap. A trial runs in slices, each from its last
checkpoint to a step at which trials are compared. A trial that is not worth more is simply not continued: nothing is
killed, and no worker, reservation or half-written file is left behind.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, cast

from pydantic import Field

from sisr.config.settings import Settings, build
from sisr.config.wording import did_you_mean
from sisr.errors import ConfigError
from sisr.sweep.state import Sweep


@dataclass(frozen=True)
class Slice:
    """One stretch of one trial."""

    trial: int | None  # None: a new trial
    until: int  # step
    donor: int | None = None  # the trial whose networks are copied first


class Scheduler(Protocol):
    """What every scheduler can do; its options are its fields."""

    copies: ClassVar[bool]  # whether trials copy each other's networks, whose checkpoints are then kept for it

    def planned(self, steps: int, evaluate_every: int | None) -> tuple["Scheduler", int]:
        """Return the scheduler with every option decided, and how often trials are evaluated.

        Args:
            steps: Of a trial that goes all the way.
            evaluate_every: As the user asked; None: not asked.

        Raises:
            ConfigError: An option does not suit these steps.
        """

    def goals(self, steps: int, trial: int) -> tuple[int, ...]:
        """Return the steps at which a trial, by number, is compared with others; `steps` is the last of them."""

    def expected(self, trials: int, level: int) -> int:
        """Return how many of a sweep's trials go on to goal number `level`, about."""

    def next_slice(self, sweep: Sweep) -> Slice | None:
        """Return what to run now, or None: wait for what runs, or, where nothing runs, the sweep is finished."""

    def model_dump(self, *, mode: str, exclude_defaults: bool) -> dict[str, Any]:
        """Return the options, as `Settings` does: a plan records those that are not the defaults."""


class AtIntervals(Settings):
    """The options and goals of schedulers that look at a trial every so many steps."""

    interval: int | None = Field(None, ge=1, description="steps from one comparison to the next")

    parts: ClassVar[int]  # how many intervals there are by default
    otherwise: ClassVar[str]  # what an interval of all steps would mean

    def planned(self, steps: int, evaluate_every: int | None) -> tuple[Self, int]:
        """Return the scheduler with its interval, and how often to evaluate."""
        if self.interval is not None and self.interval >= steps:
            raise ConfigError(
                f"interval {self.interval} is no less than the {steps} steps of a trial: {self.otherwise}"
            )
        interval = self.interval or max(1, steps // self.parts)
        return self.model_copy(update={"interval": interval}), evaluate_every or interval

    def goals(self, steps: int, trial: int) -> tuple[int, ...]:
        interval = self.interval or steps
        return (*range(interval, steps, interval), steps)

    def expected(self, trials: int, level: int) -> int:
        """Return all trials: whether one ends early, nobody knows."""
        return trials


def names() -> list[str]:
    """Return the names of all schedulers."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def build_scheduler(name: str, options: Mapping[str, Any]) -> Scheduler:
    """Return the scheduler of a name; options that are left out have their defaults.

    Raises:
        ConfigError: There is no such scheduler, or an option is unknown or wrong.
    """
    if name not in names():
        raise ConfigError(unknown(name))
    module = importlib.import_module(f"{__name__}.{name}")
    return cast(Scheduler, build(module.Scheduler, options, source=f"scheduler {name}"))


def unknown(name: str) -> str:
    """Return what to answer to a name that is no scheduler's."""
    return f"no scheduler '{name}'; {did_you_mean(name, names()) or 'all schedulers: ' + ', '.join(names())}"


def scheduler_of(sweep: Sweep) -> Scheduler:
    """Return a sweep's scheduler, with the options that its plan records."""
    return build_scheduler(sweep.plan.scheduler, sweep.plan.scheduler_options)


def next_slice(sweep: Sweep) -> Slice | None:
    """Return what to run now, or None: wait for what runs, or, where nothing runs, the sweep is finished.

    What an interruption left unfinished goes on first.
    """
    scheduler = scheduler_of(sweep)
    for trial in sweep.trials:
        if trial.state == "waiting" or (trial.state == "paused" and trial.until > trial.step):
            return Slice(trial.number, max(trial.until, scheduler.goals(sweep.plan.steps, trial.number)[0]))
    return scheduler.next_slice(sweep)
