"""What is known about a sweep: a pure function of its plan and its ledger, live and after any interruption."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sisr.disk import lock
from sisr.disk.journal import rows
from sisr.disk.run_folder import RunFolder
from sisr.disk.sweep_folder import TRIALS
from sisr.errors import CheckpointError, ConfigError
from sisr.metrics.catalogue import Mode, value_of
from sisr.sweep import plan as plans
from sisr.sweep.plan import Measures, Plan

LEDGER = "ledger.jsonl"

# waiting: recorded, not begun. paused: stands at `step`, and may go on. The last three never go on.
State = Literal["waiting", "running", "paused", "finished", "diverged", "failed"]
ENDED: tuple[State, ...] = ("finished", "diverged", "failed")
LOST: tuple[State, ...] = ("diverged", "failed")
FORMAT = 1  # of the ledger's rows; those without a number were written before there were numbers, and are of format 1


@dataclass
class Exploit:
    """One copy of a better trial's networks and settings by a worse one (PBT)."""

    step: int  # where the copy was taken
    donor: int
    params: dict[str, Any]  # the donor's, perturbed


@dataclass
class Trial:
    """One point of the search space and how far it got."""

    number: int
    params: dict[str, Any]  # the swept settings that hold now
    first_params: dict[str, Any]  # those it began with; another ones only where it copied another trial
    state: State = "waiting"
    step: int = 0  # steps done when its last slice ended, which may be between two evaluations
    until: int = 0  # steps it was asked to reach last
    curve: list[tuple[int, dict[str, float]]] = field(default_factory=list)  # every evaluation: (step, values)
    exploits: list[Exploit] = field(default_factory=list)
    seconds: float = 0.0  # of running, start-up included
    message: str = ""  # why it diverged or failed
    error: str = ""  # the class of `sisr.errors` of that; empty: none of ours, or written before it was kept
    saved: bool = False  # whether others may copy it: its last slice left a checkpoint of `step`, and of its own

    @property
    def name(self) -> str:
        """The name of its folder in `trials`."""
        return f"{self.number:04d}"

    @property
    def values(self) -> dict[str, float]:
        """Its last evaluation; empty before the first."""
        return self.curve[-1][1] if self.curve else {}

    @property
    def evaluated_at(self) -> int:
        """The step of its last evaluation; 0 before the first."""
        return self.curve[-1][0] if self.curve else 0

    def values_at(self, step: int) -> dict[str, float]:
        """Return its evaluation at exactly this step; empty where there was none."""
        return next((values for at, values in reversed(self.curve) if at == step), {})


@dataclass
class Sweep:
    """A plan and all its trials, by number."""

    plan: Plan
    trials: list[Trial] = field(default_factory=list)
    state: str = "running"  # or finished, stopped

    def apply(self, row: dict[str, Any]) -> None:
        """Take one row of the ledger into account; see `Ledger` for the rows."""
        if row["op"] == "trial":
            if row["trial"] != len(self.trials):
                raise CheckpointError(f"the ledger skips from trial {len(self.trials) - 1} to {row['trial']}")
            self.trials.append(Trial(row["trial"], row["params"], row["params"]))
        elif row["op"] == "sweep":
            self.state = row["state"]
        elif row["op"] == "resume":
            self.state = "running"
            self.pause()
        elif row["op"] in ("start", "exploit", "end"):
            _apply_to(self.trials[row["trial"]], row)

    @property
    def may_begin(self) -> bool:
        """Whether the plan has more trials than have begun."""
        return len(self.trials) < self.plan.trials

    def pause(self) -> None:
        """Take note that no driver is at work on the trials that were running."""
        for trial in self.trials:
            if trial.state == "running":
                trial.state = "paused"

    def rank_score(self, values: dict[str, float]) -> float:
        """Return what schedulers rank by, larger is better; minus infinity where it is missing or not finite."""
        return _score(values, *self.plan.rank_metric)

    def score_at(self, trial: Trial, step: int) -> float:
        """Return a trial's `rank_score` at exactly this step."""
        return self.rank_score(trial.values_at(step))

    def ranking(self) -> list[Trial]:
        """Return the trials that may be chosen, best first: those evaluated further on before all others.

        Values at unequal steps don't compare. Diverged and failed trials, and those never evaluated, are left out.
        """
        found = [t for t in self.trials if t.state not in LOST]
        found = [t for t in found if math.isfinite(self.rank_score(t.values))]
        return sorted(found, key=lambda t: (-t.evaluated_at, -self.rank_score(t.values), t.number))

    def best(self) -> Trial | None:
        """Return the best trial, or None as long as there is none."""
        return next(iter(self.ranking()), None)

    def pareto(self, measures: Measures | None = None, step: int | None = None) -> list[Trial]:
        """Return the trials that no other one evaluated at the same step beats in all measures, by the first one.

        Without `measures` these are the objectives, without `step` the furthest one counts. Trials that lack a measure
        are left out.
        """
        ranked = self.ranking()
        at = ranked[0].evaluated_at if step is None else step
        far = [trial for trial in ranked if trial.values_at(at)]
        points = {t.number: tuple(_score(t.values_at(at), *m) for m in measures or self.plan.measures) for t in far}
        points = {number: point for number, point in points.items() if -math.inf not in point}
        kept = {n: p for n, p in points.items() if not any(_dominates(other, p) for other in points.values())}
        return sorted((t for t in far if t.number in kept), key=lambda t: kept[t.number], reverse=True)


def _score(values: dict[str, float], metric: str, mode: Mode) -> float:
    """Return a value, larger is better; minus infinity where it is missing or not finite."""
    value = value_of(values, metric)
    if value is None or not math.isfinite(value):
        return -math.inf
    return value if mode == "max" else -value


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Return whether one point is at least as large as another everywhere, and another point."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def _apply_to(trial: Trial, row: dict[str, Any]) -> None:
    if row["op"] == "start":
        trial.state, trial.until = "running", row["until"]
    elif row["op"] == "exploit":
        trial.exploits.append(Exploit(row["step"], row["donor"], row["params"]))
        trial.params, trial.step, trial.saved = row["params"], row["step"], False
        trial.until = row.get("until", trial.until)
    else:
        trial.state, trial.step, trial.message = row["state"], row["step"], row.get("message", "")
        trial.error = row.get("error", "")
        trial.saved = row.get("saved", True)
        trial.seconds += row.get("seconds", 0.0)
        trial.curve += [(int(step), dict(values)) for step, values in row.get("curve", [])]


def replay(plan: Plan, records: Iterable[dict[str, Any]], *, held: bool = False) -> Sweep:
    """Return the sweep of a ledger's records; unless the ledger is `held`, trials that were running are paused."""
    sweep = Sweep(plan)
    for number, record in enumerate(records, 1):
        try:
            sweep.apply(record)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"record {number} of the ledger of sweep {plan.name} is damaged: {error!r}"
            ) from error
    if not held:
        sweep.pause()
    return sweep


def read(folder: Path) -> Sweep:
    """Return the sweep in a folder, without disturbing a driver that is at work on it.

    For those who look on: while a driver holds the ledger, its trials are running; a sweep that did not finish and that
    nobody works on is stopped. A driver itself replays the `records`.

    Raises:
        ConfigError: There is no sweep.
        CheckpointError: Its plan or a line of its ledger is damaged.
    """
    plan = plans.read(folder)
    if plan is None:
        raise ConfigError(f"{folder} holds no sweep: name the folder of one, or a sweep in --runs")
    held = lock.is_held(folder / LEDGER)  # asked first: what ends meanwhile is read, too
    sweep = replay(plan, records(folder), held=held)
    if not held and sweep.state == "running":
        sweep.state = "stopped"
    return sweep


def records(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a sweep's ledger; a last line that a crash cut off is left out.

    Raises:
        CheckpointError: Another line is damaged.
    """
    path, found = folder / LEDGER, []
    if not path.is_file():
        return []
    torn = 0
    for number, (row, _) in enumerate(rows(path), 1):
        if row is None:
            torn = torn or number
        elif row.get("format", FORMAT) > FORMAT:
            raise CheckpointError(f"{path}:{number} has format {row['format']}: a newer sisr wrote it, update this one")
        elif torn and row["op"] != "resume":  # what a crash tore is followed by the next attempt's first row
            reason = "is damaged, and not by a crash: restore the file, or start another sweep"
            raise CheckpointError(f"{path}:{torn} {reason}")
        else:
            torn = 0
            found.append(row)
    return found


def folder_of(folder: Path, trial: Trial) -> RunFolder:
    """Return the run folder of a trial of the sweep in `folder`."""
    return RunFolder(folder / TRIALS / trial.name)


def baseline(folder: Path, sweep: Sweep) -> dict[str, float]:
    """Return bicubic's values by metric, such as {"val/psnr_y": 25.1}, from the best trial that has them."""
    for trial in [*sweep.ranking(), *sweep.trials]:
        found = folder_of(folder, trial).status().get("baseline")
        if isinstance(found, dict) and found:
            return {f"val/{name}": float(value) for name, value in found.items() if isinstance(value, int | float)}
    return {}
