"""The driver of a sweep: it decides what runs next, and writes down what became of it."""

import random
from collections.abc import Callable

from sisr.cluster import environment, record, shared, sweep_files, train, tune
from sisr.cluster.sweep_order import Order, trial_run
from sisr.cluster.tune import Outcome, Task
from sisr.sweep import plan as plans
from sisr.sweep import results, schedule, search
from sisr.sweep.ledger import Ledger
from sisr.sweep.state import Trial
from sisr.sweep.trial_folder import folder_of
from sisr.tracking.outbox import Outbox, Status
from sisr.training.dataset import TrainingData
from sisr.training.folder import RunFolder
from sisr.training.run import Run

# What MLflow calls a trial's end; a pruned one did what it was asked to.
MLFLOW_STATUS: dict[str, Status] = {
    "finished": "FINISHED",
    "pruned": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
}


class Driver:
    """Decides what runs next and writes down what became of it: in the ledger first, then everywhere else."""

    def __init__(self, order: Order, folder: RunFolder, data: TrainingData, ledger: Ledger) -> None:
        self._order, self._folder, self._data = order, folder, data
        self._ledger, self._sweep = ledger, ledger.sweep
        self._exhausted = False
        self._taken_up: set[int] = set()  # trials that this driver has begun or continued

    def run(self, tick: Callable[[], None]) -> None:
        """Run all slices on Ray."""
        for trial in self._sweep.trials:
            self._copy_networks(trial)
        if self.finished():
            return
        environment.prepare()
        tune.prepare()
        ray = train.connect(self._order.address)
        shared.check(ray, self._folder.path, grows=train.can_grow())
        share = tune.share(
            ray.cluster_resources(),
            workers=self._order.workers,
            cpus=self._order.cpus_per_worker,
            gpus=self._order.gpus_per_worker,
            concurrency=self._order.concurrency,
            trials=self._sweep.plan.trials,
        )
        tune.run_slices(self, share, self._folder.path.resolve() / "ray", tick)

    def next_task(self) -> Task | None:
        """Return the next slice; a new trial, a copy and the start are in the ledger before it begins."""
        found = None if self._folder.stop_requested() else self._next()
        if found is None:
            return None
        trial = self._begin() if found.trial is None else self._sweep.trials[found.trial]
        if trial is None:  # the search has nothing more to offer
            return self.next_task()
        if found.donor is not None:
            self._exploit(trial, self._sweep.trials[found.donor])
        self._ledger.write("start", trial=trial.number, until=found.until)
        if trial.number not in self._taken_up:  # an earlier driver's end may have closed its MLflow run
            self._taken_up.add(trial.number)
            with Outbox(self._folder_of(trial).path) as outbox:
                outbox.status("RUNNING")
        run, folder = trial_run(self._sweep.plan, trial), self._folder_of(trial).path.resolve()
        return Task(trial=trial.number, run=run, folder=folder, until=found.until, sweep=self._folder.path.resolve())

    def finished(self) -> bool:
        """Return whether nothing will run again; asked while nothing runs."""
        return self._folder.stop_requested() or self._next() is None

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Record what became of a slice."""
        trial = self._sweep.trials[task.trial]
        folder = self._folder_of(trial)
        known = max([step for step, _ in trial.curve] + [copy.step for copy in trial.exploits], default=-1)
        curve = [(step, values) for step, values in folder.evaluations() if step > known]
        fields = {"state": outcome.state, "step": outcome.step, "message": outcome.message}
        self._ledger.write("end", trial=trial.number, **fields, seconds=round(outcome.seconds, 2), curve=curve)
        if trial.state != "paused":
            self._close_trial(trial, trial.state)
        elif self._sweep.plan.scheduler == "pbt":
            sweep_files.pin(folder, trial.step)

    def announce(self) -> None:
        """Put what identifies the sweep into its outbox."""
        plan = self._sweep.plan
        described = plan.model_dump(exclude={"format", "recipe_source", "options", "space", "fixed"})
        described |= {f"space.{name}": value for name, value in plan.space.items()}
        described |= {f"fixed.{name}": value for name, value in plan.fixed.items()}
        tags = {"sisr.kind": "sweep", "sisr.recipe": plan.recipe, "sisr.folder": str(self._folder.path.resolve())}
        with Outbox(self._folder.path) as outbox:
            outbox.params(described)
            outbox.tags(tags | {"sisr.data_fingerprint": plan.fingerprint, "sisr.objective": list(plan.objective)})
            outbox.status("RUNNING")
            outbox.artifact(plans.FILE)

    def close(self) -> None:
        """Write the results, and record that the sweep is finished or stopped."""
        stopped = self._folder.stop_requested()
        best = self._sweep.best()
        if not stopped:
            for trial in self._sweep.trials:
                if trial.state == "paused":
                    self._close_trial(trial, "pruned")
                if best and trial is not best:
                    sweep_files.drop_checkpoints(self._folder_of(trial))
        self._ledger.write("sweep", state="stopped" if stopped else "finished")
        written = results.write(self._folder.path, self._sweep)
        with Outbox(self._folder.path) as outbox:
            if best is not None:
                written.append(sweep_files.write_best(self._folder.path, self._sweep, best))
                values = {f"best/{name.removeprefix('val/')}": value for name, value in best.values.items()}
                outbox.metrics(best.step, values)
                outbox.tags({"sisr.best_trial": best.name, "sisr.best_params": best.params})
            for path in written:
                outbox.artifact(path.relative_to(self._folder.path), "" if path.name == sweep_files.BEST else "results")
            outbox.tags({"sisr.state": self._sweep.state, "sisr.trials": len(self._sweep.trials)})
            outbox.status("KILLED" if stopped else "FINISHED")

    def _next(self) -> schedule.Slice | None:
        return schedule.next_slice(self._sweep, exhausted=self._exhausted)

    def _folder_of(self, trial: Trial) -> RunFolder:
        return RunFolder(folder_of(self._folder.path, trial))

    def _begin(self) -> Trial | None:
        """Ask the search for a new trial and record it; None where it has none."""
        params = search.suggest(self._sweep, self._order.space)
        if params is None:
            self._exhausted = True
            return None
        self._ledger.write("trial", trial=len(self._sweep.trials), params=params)
        trial = self._sweep.trials[-1]
        run, folder = self._record(trial), self._folder_of(trial)
        self._taken_up.add(trial.number)
        record.announce(run, folder, self._data.facts, resumed=False)
        with Outbox(folder.path) as outbox:
            outbox.tags({"sisr.kind": "trial", "sisr.sweep": self._sweep.plan.name, "sisr.trial": trial.name})
        return trial

    def _record(self, trial: Trial) -> Run:
        run = trial_run(self._sweep.plan, trial)
        self._folder_of(trial).record(run, {"data": self._data.facts, "params": trial.params}, {})
        return run

    def _exploit(self, trial: Trial, donor: Trial) -> None:
        """Let a trial go on as a copy of a better one, with its settings perturbed."""
        plan = self._sweep.plan
        chance = random.Random(f"{plan.seed}/explore/{trial.number}/{len(trial.exploits)}")
        params = self._order.space.explore(donor.params, chance)
        self._ledger.write("exploit", trial=trial.number, donor=donor.number, step=donor.step, params=params)
        self._copy_networks(trial)
        with Outbox(self._folder_of(trial).path) as outbox:
            outbox.tags({f"sisr.copy.{len(trial.exploits)}": {"step": donor.step, "donor": donor.name, **params}})

    def _copy_networks(self, trial: Trial) -> None:
        """Put the donor's checkpoint in the place of a trial's own, once for each copy that the ledger knows."""
        if trial.exploits:
            donor = self._folder_of(self._sweep.trials[trial.exploits[-1].donor])
            sweep_files.copy_networks(self._folder_of(trial), donor, len(trial.exploits), lambda: self._record(trial))

    def _close_trial(self, trial: Trial, state: str) -> None:
        """Put what became of a trial into its outbox."""
        final = {f"final/{name.removeprefix('val/')}": value for name, value in trial.values.items()}
        with Outbox(self._folder_of(trial).path) as outbox:
            if final:
                outbox.metrics(trial.step, final)
            outbox.tags({"sisr.state": state} | ({"sisr.message": trial.message} if trial.message else {}))
            outbox.status(MLFLOW_STATUS[state])
