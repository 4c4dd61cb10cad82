"""Sweeps without training: a scheduler, a ledger's rows, and a function that says how good a trial is at a step."""

import json
import random
from collections.abc import Callable
from typing import Any

from sisr.sweep import schedulers
from sisr.sweep.plan import Plan
from sisr.sweep.schedulers import Slice
from sisr.sweep.state import Sweep, Trial, replay

Score = Callable[[dict[str, Any], int], float]  # (params, step) -> larger is better; NaN: diverged


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "name": "test",
        "recipe": "srez",
        "space": {"x": {"uniform": [0.0, 1.0]}},
        "objective": ("val/score",),
        "mode": ("max",),
        "trials": 9,
        "scheduler_options": {"rungs": [1, 3]} if changes.get("scheduler", "asha") == "asha" else {},
        "steps": 9,
        "data": "demo",
        **changes,
    }
    return Plan(**values)


class Simulation:
    """Runs a plan's slices, several at a time, in a random but repeatable order of their ends."""

    def __init__(
        self, plan: Plan, score: Score, concurrency: int = 1, rows: list[dict[str, Any]] | None = None
    ) -> None:
        self.plan, self.score, self.concurrency = plan, score, concurrency
        self.rows: list[dict[str, Any]] = []
        self.sweep: Sweep = replay(plan, ())
        for row in rows or ():
            self.write(**row)
        self.sweep = replay(plan, self.rows)
        self.steps = 0  # done in all
        self.slices: list[Slice] = []
        self.random = random.Random(0)

    def write(self, **row: Any) -> None:
        self.rows.append(json.loads(json.dumps(row)))
        self.sweep.apply(self.rows[-1])

    def run(self, limit: int | None = None) -> Sweep:
        """Run to the end, or until `limit` rows are written."""
        running: list[Trial] = []
        while limit is None or len(self.rows) < limit:
            found = schedulers.next_slice(self.sweep) if len(running) < self.concurrency else None
            if found is not None:
                running.append(self.begin(found))
            elif running:
                self.end(running.pop(self.random.randrange(len(running))))
            else:
                break
        return self.sweep

    def begin(self, found: Slice) -> Trial:
        self.slices.append(found)
        number = found.trial if found.trial is not None else len(self.sweep.trials)
        if found.trial is None:
            x = random.Random(f"trial {number}").random()
            self.write(op="trial", trial=number, params={"x": x})
        if found.donor is not None:
            donor = self.sweep.trials[found.donor]
            x = min(1.0, donor.params["x"] * self.random.choice([0.8, 1.2]))
            self.write(
                op="exploit", trial=number, donor=found.donor, step=donor.step, until=found.until, params={"x": x}
            )
        self.write(op="start", trial=number, until=found.until)
        return self.sweep.trials[number]

    def end(self, trial: Trial) -> None:
        value = self.score(trial.params, trial.until)
        self.steps += trial.until - trial.step
        if value != value:
            self.write(op="end", trial=trial.number, state="diverged", step=trial.step, curve=[], message="NaN")
            return
        state = "finished" if trial.until == self.plan.steps else "paused"
        curve = [[trial.until, {"val/score": value}]]
        self.write(op="end", trial=trial.number, state=state, step=trial.until, curve=curve)
