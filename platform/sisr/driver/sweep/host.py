"""What a sweep's driver and whatever runs its trials know of each other, and a trial as the run that it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sisr import recipes
from sisr.config.settings import build
from sisr.sweep.plan import Plan
from sisr.sweep.state import Trial
from sisr.training.run import Options, Run


@dataclass(frozen=True, kw_only=True)
class Task:
    """One slice of one trial, ready to run anywhere."""

    trial: int
    run: Run
    folder: Path  # of the trial, absolute
    until: int  # step
    sweep: Path  # the sweep's folder, absolute: a request to stop is left there


@dataclass(frozen=True, kw_only=True)
class SliceEnd:
    """How a slice ended."""

    state: Literal["paused", "finished", "diverged", "failed"]
    step: int
    seconds: float = 0.0
    message: str = ""  # why it diverged or failed
    error: str = ""  # the class of `sisr.errors` whose exit code fits; empty: none


class SliceSource(Protocol):
    """Where slices come from, and where their ends are recorded: the sweep's driver."""

    def next_task(self) -> Task | None:
        """Return what to run now, or None: nothing now."""

    def finished(self) -> bool:
        """Return whether there will never be anything to run again; asked while nothing runs."""

    def ended(self, task: Task, end: SliceEnd) -> None:
        """Record how a slice ended."""


class SweepHost(Protocol):
    """What runs a sweep's slices: Ray Tune, or, in tests, the process of the driver."""

    @property
    def workers(self) -> int:
        """How many processes divide the batch of each trial."""

    def run(self, source: SliceSource, folder: Path, trials: int) -> None:
        """Run slices, as many at a time as there is room for, until the source has no more.

        The source is asked and answered in the calling thread, and no more once this has returned or raised.

        Args:
            source: Of the slices.
            folder: Of the sweep; `folder / "ray"` is the host's own.
            trials: Of the whole sweep.

        Raises:
            ConfigError: Not even one trial has room.
        """

    def close(self) -> None:
        """End what still runs, and give back what the host has reserved; may be called twice."""


def trial_run(plan: Plan, trial: Trial) -> Run:
    """Return the run that a trial is, with the settings that hold now."""
    config = {**plan.fixed, **trial.params, "steps": plan.steps}
    module = recipes.load(plan.recipe, plan.recipe_source)
    return Run(
        name=f"{plan.name or plan.recipe}-{trial.name}",
        recipe=plan.recipe,
        recipe_source=plan.recipe_source,
        config=build(module.Config, config, source=f"trial {trial.name}").model_dump(mode="json"),
        options=build(Options, plan.options, source="--option"),
        data=plan.data,
        validation=plan.validation,
        fingerprint=plan.fingerprint,
        validation_sets=plan.validation_sets,
        validation_fingerprints=plan.validation_fingerprints,
        init=plan.init,
        init_sha256=plan.init_sha256,
        init_partly=plan.init_partly,
        init_judge=plan.init_judge,
        init_judge_sha256=plan.init_judge_sha256,
    )
