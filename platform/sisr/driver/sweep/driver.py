"""The driver of a sweep: it decides what runs next, and records how it ended."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sisr.disk import atomic
from sisr.disk.run_folder import RunFolder
from sisr.driver.sweep import files, record
from sisr.driver.sweep.host import SliceEnd, Task, trial_run
from sisr.errors import DiskError
from sisr.sweep import schedulers, search
from sisr.sweep.ledger import Ledger
from sisr.sweep.report import results
from sisr.sweep.schedulers import Slice
from sisr.sweep.searchers import Searchers
from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import ENDED, Trial, folder_of
from sisr.training import run as runs


class Driver:
    """Decides what runs next and records how it ended: in the ledger first, then everywhere else.

    All that follows from a row can be done twice. `take_up` does it again after a crash that came between.
    """

    def __init__(
        self,
        folder: RunFolder,
        ledger: Ledger,
        space: SearchSpace,
        recipe: str,
        data: dict[str, Any],
        held_out: Sequence[str] = (),
        searchers: Searchers | None = None,
    ):
        """Drive the sweep of a ledger.

        Args:
            folder: Of the sweep.
            ledger: Its own.
            space: What is searched.
            recipe: Finds the recipe for `sisr train`.
            data: Facts about the images.
            held_out: Names of the images that are not trained on.
            searchers: Asked for the next trial where the plan names one of them.
        """
        self._folder, self._space, self._recipe, self._searchers = folder, space, recipe, searchers
        self._facts: dict[str, Any] = {"data": data, "held_out": list(held_out)}  # of each trial's record
        self._ledger, self._sweep = ledger, ledger.sweep
        self._copies = schedulers.scheduler_of(self._sweep).copies
        self._opened: set[int] = set()  # trials whose MLflow run this driver has opened

    def take_up(self) -> None:
        """Announce the sweep, and do what follows from the ledger's rows where a crash came between."""
        record.announce(self._folder, self._sweep.plan)
        for trial in self._sweep.trials:
            atomic.remove_unfinished(self._folder_of(trial).path)
            if trial.state == "paused" or (trial.state in ENDED and record.is_open(self._folder_of(trial))):
                self._follow_end(trial)
        for trial in self._sweep.trials:
            self._follow_exploit(trial)

    def next_task(self) -> Task | None:
        """Return the next slice; a new trial, a copy and the start are in the ledger before it begins."""
        found = None if self._folder.stop_requested() else schedulers.next_slice(self._sweep)
        return None if found is None else self._task(found)

    def finished(self) -> bool:
        """Return whether nothing will run again; asked while nothing runs."""
        return self._folder.stop_requested() or schedulers.next_slice(self._sweep) is None

    def ended(self, task: Task, end: SliceEnd) -> None:
        """Record how a slice ended.

        Raises:
            DiskError: It could not write. Nothing is recorded: other trials can't write either, and the next driver
                takes the slice up again.
        """
        if end.error == DiskError.__name__:
            raise DiskError(f"trial {task.trial} stopped, so does the sweep: {end.message}; the same command goes on")
        trial = self._sweep.trials[task.trial]
        folder = self._folder_of(trial)
        known = max([step for step, _ in trial.curve] + [copy.step for copy in trial.exploits], default=-1)
        self._ledger.write(
            "end",
            trial=trial.number,
            state=end.state,
            step=end.step,
            message=end.message,
            error=end.error,
            seconds=round(end.seconds, 2),
            saved=files.is_saved(folder, end.step),
            curve=[(step, values) for step, values in folder.evaluations() if step > known],
        )
        self._follow_end(trial)

    def close(self) -> None:
        """Write the results, and record, last of all, that the sweep is finished or stopped."""
        stopped = self._folder.stop_requested() and schedulers.next_slice(self._sweep) is not None
        shown = replace(self._sweep, state="stopped" if stopped else "finished")
        best = shown.best()
        for trial in shown.trials:
            if trial.state == "paused":
                record.close_trial(self._folder_of(trial), trial, "paused" if stopped else "pruned")
            if not stopped and best and trial is not best:
                files.drop_checkpoints(self._folder_of(trial), keep_newest=trial.state == "paused")
        written = results.write(self._folder.path, shown)
        if best:
            written.append(files.write_best(self._folder.path, shown, best, self._recipe))
        record.close(self._folder, shown, best, written)
        self._ledger.write("sweep", state=shown.state)

    def abandon(self, error: BaseException) -> None:
        """Record in MLflow that the sweep and its trials were broken off; to be called when no trial runs any more."""
        for trial in self._sweep.trials:
            if trial.number in self._opened and trial.state not in ENDED:
                record.break_off(self._folder_of(trial), "KILLED")
        record.break_off(self._folder, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")

    def _task(self, found: Slice) -> Task:
        if found.trial is None:
            params = search.suggest(self._sweep, self._space, self._searchers)
            self._ledger.write("trial", trial=len(self._sweep.trials), params=params)
        trial = self._sweep.trials[-1 if found.trial is None else found.trial]
        if found.donor is not None:
            self._exploit(trial, self._sweep.trials[found.donor], found.until)
        run, folder = trial_run(self._sweep.plan, trial), self._folder_of(trial)
        if trial.state == "waiting":
            self._record(trial)
            files.hand_on_init(self._folder, folder)
            record.announce_trial(run, folder, self._facts["data"], self._sweep.plan.name, trial)
        elif trial.number not in self._opened:  # an earlier driver's end may have closed its MLflow run
            record.reopen(folder)
            if runs.read(folder) != run:  # what every trial is run with may have changed since
                self._record(trial)
        self._opened.add(trial.number)
        self._ledger.write("start", trial=trial.number, until=found.until)
        sweep = self._folder.path.resolve()
        return Task(trial=trial.number, run=run, folder=folder.path.resolve(), until=found.until, sweep=sweep)

    def _exploit(self, trial: Trial, donor: Trial, until: int) -> None:
        """Let a trial go on as a copy of a better one, with its settings perturbed."""
        chance = random.Random(f"{self._sweep.plan.seed}/explore/{trial.number}/{len(trial.exploits)}")
        params = self._space.explore(donor.params, chance)
        self._ledger.write(
            "exploit", trial=trial.number, donor=donor.number, step=donor.step, until=until, params=params
        )
        self._follow_exploit(trial)

    def _follow_exploit(self, trial: Trial) -> None:
        """Put the donor's checkpoint in the place of a trial's own, once for each copy that the ledger knows."""
        folder, copies = self._folder_of(trial), len(trial.exploits)
        if copies <= files.copies_made(folder):
            return
        donor = self._sweep.trials[trial.exploits[-1].donor]
        files.copy_networks(folder, self._folder_of(donor), trial.exploits[-1].step)
        self._record(trial)
        record.tag_copy(folder, trial, donor)
        files.note_copies(folder, copies)

    def _follow_end(self, trial: Trial) -> None:
        """Close the MLflow run of a trial that ended; keep the checkpoint of one that others may copy."""
        if trial.state in ENDED:
            record.close_trial(self._folder_of(trial), trial, trial.state)
        elif self._copies and trial.saved:
            files.pin(self._folder_of(trial), trial.step)

    def _record(self, trial: Trial) -> None:
        run = trial_run(self._sweep.plan, trial)
        runs.record(self._folder_of(trial), run, {**self._facts, "params": trial.params}, {})

    def _folder_of(self, trial: Trial) -> RunFolder:
        return folder_of(self._folder.path, trial)
