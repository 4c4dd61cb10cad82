"""From a command to a searched space: the driver of a sweep, which decides, records and reports; Ray Tune runs."""

import os
import random
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sisr import recipes, trust
from sisr.cluster import capacity, environment, record, shared, train, tune
from sisr.cluster.execute import DRAIN_S, Tracking, say
from sisr.cluster.hosts import stop_on_signal
from sisr.cluster.order import buildable
from sisr.cluster.tune import Outcome, Task
from sisr.config import build
from sisr.data.packed import absolute, look
from sisr.errors import ConfigError, StoppedError
from sisr.metrics import perceptual
from sisr.revision import code_revision
from sisr.sweep import plan as plans
from sisr.sweep import results, schedule, search, space_file
from sisr.sweep.ledger import Ledger
from sisr.sweep.live import SweepDisplay
from sisr.sweep.plan import Plan
from sisr.sweep.space import SearchSpace
from sisr.sweep.space_file import SpaceFile
from sisr.sweep.state import Sweep, Trial
from sisr.tracking import address, courier
from sisr.tracking.outbox import Outbox, Status
from sisr.training.checkpoint import folder_name
from sisr.training.dataset import TrainingData, open_data
from sisr.training.folder import RunFolder
from sisr.training.run import Options, Run, check_name, versions
from sisr.training.shares import check_equal

TRIALS = "trials"
BEST = "best.yaml"
# What MLflow calls a trial's end; a pruned one did what it was asked to.
MLFLOW_STATUS: dict[str, Status] = {
    "finished": "FINISHED",
    "pruned": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
}
PINNED = "pinned"  # a trial's checkpoint at the end of its last slice, kept for others to copy
COPIES = ".copies"  # how many copies of other trials a trial's checkpoints hold already


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What somebody asked to search; None leaves it to the search space's file."""

    recipe: str
    data: str = "demo"
    validation: str | None = None
    name: str = ""  # empty: made from the recipe and a hash of the plan
    search_space: Path | None = None  # None: the recipe's own
    space: tuple[str, ...] = ()  # texts of --space
    settings: tuple[str, ...] = ()  # texts of --set
    trials: int | None = None
    steps: int | None = None
    search: str | None = None
    scheduler: str | None = None
    objective: list[str] | None = None
    rungs: tuple[int, ...] | None = None  # asha: None: a ninth and a third of the steps
    interval: int | None = None  # pbt: None: a tenth of the steps
    options: dict[str, Any] = field(default_factory=dict)  # of `training.run.Options`
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Order:
    """A sweep, and what it may use."""

    plan: Plan
    space: SearchSpace
    runs: Path = Path("runs")
    workers: int = 1  # of each trial
    cpus_per_worker: float | None = None
    gpus_per_worker: float | None = None
    concurrency: int | None = None
    address: str | None = None  # of a running Ray


def plan_of(wanted: Wanted) -> tuple[Plan, SearchSpace]:
    """Return the plan of a sweep, and its space, both checked against the recipe.

    Raises:
        ConfigError: The recipe, its space, or a setting can't be used.
    """
    source = recipes.find(wanted.recipe)
    module = recipes.load(source.name, source.text, source.where)
    if source.text:
        trust.remember(source.name, source.text, source.where)
    names = ("trials", "steps", "search", "scheduler", "objective")
    file, space = space_file.load(
        space_file.find(wanted.recipe, wanted.search_space),
        module.Config,
        options={name: getattr(wanted, name) for name in names},
        space=wanted.space,
        settings=wanted.settings,
    )
    marks, every = _marks(file, wanted)
    options = {"evaluate_every": every, "seed": wanted.seed, **wanted.options}
    build(Options, options, source="--option")
    fields = {**file.plan_fields(), **marks, "options": options, "seed": wanted.seed, "name": wanted.name}
    images = {"data": wanted.data, "validation": wanted.validation}
    recipe = {"recipe": source.name, "recipe_source": source.text}
    return build(Plan, {**fields, **images, **recipe}, source="the sweep"), space


def _marks(file: SpaceFile, wanted: Wanted) -> tuple[dict[str, Any], int]:
    """Return where trials are compared, as a plan's fields, and how often they are evaluated.

    Raises:
        ConfigError: The scheduler compares elsewhere, or trials are not evaluated where they are compared.
    """
    for option, value, scheduler in (("--rungs", wanted.rungs, "asha"), ("--interval", wanted.interval, "pbt")):
        if value is not None and file.scheduler != scheduler:
            raise ConfigError(f"{option} has no effect with the scheduler {file.scheduler}: leave it out")
    steps, every = file.steps, wanted.options.get("evaluate_every")
    if file.scheduler == "asha":
        every = every or (wanted.rungs[0] if wanted.rungs else max(1, steps // 18))
        rungs = wanted.rungs or tuple(
            sorted({max(1, round(steps / part / every)) * every for part in (9, 3)} - {steps})
        )
        fields: dict[str, Any] = {"rungs": rungs}
    elif file.scheduler == "pbt":
        rungs = (wanted.interval or max(1, steps // 10),)
        every = every or rungs[0]
        fields = {"interval": rungs[0]}
    else:
        every, rungs, fields = every or max(1, steps // 10), (), {}
    if wrong := [rung for rung in rungs if rung % every]:
        raise ConfigError(
            f"trials are compared at step {wrong[0]:,} but evaluated every {every:,}: give an --option evaluate_every "
            f"that divides {', '.join(map(str, rungs))}"
        )
    return fields, every


def trial_run(plan: Plan, trial: Trial) -> Run:
    """Return the run that a trial is, with the settings that hold now."""
    config = {**plan.fixed, **trial.params, "steps": plan.steps}
    module = recipes.load(plan.recipe, plan.recipe_source)
    return Run(
        name=f"{plan.name}-{trial.name}",
        recipe=plan.recipe,
        recipe_source=plan.recipe_source,
        config=build(module.Config, config, source=f"trial {trial.name}").model_dump(mode="json"),
        options=build(Options, plan.options, source="--option"),
        data=plan.data,
        validation=plan.validation,
        fingerprint=plan.fingerprint,
    )


def prepare(order: Order) -> tuple[Plan, RunFolder, TrainingData]:
    """Check an order, pack its images, and return the plan, the sweep's folder and the data.

    Raises:
        ConfigError: A setting or the name can't be used.
        DataError: The images can't be used.
    """
    plan = order.plan
    if plan.name:
        check_name(plan.name)
    look(plan.data, plan.validation)  # an error names the source as it was written
    plan = plan.model_copy(
        update={"data": absolute(plan.data), "validation": plan.validation and absolute(plan.validation)}
    )
    run = trial_run(plan.model_copy(update={"name": "trial"}), Trial(0, {}, {}))
    check_equal(run.config["batch_size"], order.workers, run.options.accumulate)
    data = open_data(run, buildable(run, plan.recipe), show=True)
    perceptual.offered(run.options.perceptual, data.least_side)
    if "perceptual" in plan.options:  # perhaps a file, as every process finds it
        plan = plan.model_copy(update={"options": {**plan.options, "perceptual": run.options.perceptual}})
    plan = plan.model_copy(update={"fingerprint": data.fingerprint})
    if not plan.name:
        plan = plan.model_copy(update={"name": f"{plan.recipe}-sweep-{plan.hash}"})
    return plan, RunFolder(order.runs / plan.name), data


def execute(order: Order, tracking: Tracking) -> Sweep:
    """Search to the end, or go on with it, and return the sweep.

    Raises:
        StoppedError: It was asked to stop; every trial has saved its state.
        RunLockedError: Another process is executing it.
    """
    plan, folder, data = prepare(order)
    with ExitStack() as stack:
        stack.enter_context(folder.lock())
        if tracking.required:
            courier.require(address.decide(folder.path, tracking.uri, tracking.experiment).tracking_uri)
        _take_up(plan, folder, data)
        ledger = Ledger(folder.path)
        stack.callback(ledger.close)
        folder.clear_stop()
        driver = Driver(order, folder, data, ledger)
        if driver.finished() and (folder.path / results.FOLDER / "index.html").is_file():
            say(f"sweep {plan.name} is finished already; more --trials would go on")
            ledger.write("sweep", state="finished")
            return ledger.sweep
        delivery = courier.start(folder.path, tracking.uri, tracking.experiment, say)
        drain_s = DRAIN_S
        try:
            driver.announce()
            stack.enter_context(stop_on_signal(folder))
            with SweepDisplay(folder.path, ledger.sweep) as display:
                driver.run(display.refresh)
            driver.close()
        except KeyboardInterrupt:
            drain_s = 0.0
            raise
        finally:
            train.shutdown()
            say(delivery.finish(drain_s).message)
    if ledger.sweep.state == "stopped":
        raise StoppedError(f"sweep {plan.name} stopped; every trial is saved, and the same command goes on from there")
    return ledger.sweep


def _take_up(plan: Plan, folder: RunFolder, data: TrainingData) -> None:
    """Record a new sweep, or make sure that an old one may go on.

    Raises:
        ConfigError: A sweep of this name exists and is another one.
    """
    previous = plans.read(folder.path)
    if previous is None and (folder.path / "run.json").exists():
        raise ConfigError(f"{folder.path} holds a run, not a sweep: choose another --name")
    if previous is not None:
        before, now = previous.model_dump(), plan.model_dump()
        changed = [f"{name} {before[name]} -> {now[name]}" for name in now if before[name] != now[name]]
        changed = [text for text in changed if not text.startswith("trials ") or plan.trials < previous.trials]
        if changed:
            raise ConfigError(
                f"sweep {plan.name} exists and differs: {'; '.join(changed)}. "
                "Choose another --name, or the same settings"
            )
        if previous == plan:
            return
    plans.write(folder.path, plan, {"versions": versions(), "code": code_revision(), "data": data.facts})


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
        cluster = capacity.read(ray)
        shared.check(ray, self._folder.path, grows=cluster.grows)
        share = tune.share(
            {name: cluster.total(name) for name in ("CPU", "GPU")},
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
            _pin(folder, trial.step)

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
                    self._drop_checkpoints(trial)
        self._ledger.write("sweep", state="stopped" if stopped else "finished")
        written = results.write(self._folder.path, self._sweep)
        with Outbox(self._folder.path) as outbox:
            if best is not None:
                written.append(write_best(self._folder.path, self._sweep, best))
                values = {f"best/{name.removeprefix('val/')}": value for name, value in best.values.items()}
                outbox.metrics(best.step, values)
                outbox.tags({"sisr.best_trial": best.name, "sisr.best_params": best.params})
            for path in written:
                outbox.artifact(path.relative_to(self._folder.path), "" if path.name == BEST else "results")
            outbox.tags({"sisr.state": self._sweep.state, "sisr.trials": len(self._sweep.trials)})
            outbox.status("KILLED" if stopped else "FINISHED")

    def _next(self) -> schedule.Slice | None:
        return schedule.next_slice(self._sweep, exhausted=self._exhausted)

    def _folder_of(self, trial: Trial) -> RunFolder:
        return RunFolder(self._folder.path / TRIALS / trial.name)

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
        folder = self._folder_of(trial)
        done = folder.path / COPIES
        if int(done.read_text()) >= len(trial.exploits) if done.is_file() else not trial.exploits:
            return
        donor = self._folder_of(self._sweep.trials[trial.exploits[-1].donor])
        fresh = folder.path / f".{PINNED}"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(donor.path / PINNED, fresh, copy_function=os.link)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        folder.best.unlink(missing_ok=True)
        fresh.rename(folder.checkpoints)
        self._record(trial)
        done.write_text(str(len(trial.exploits)))

    def _close_trial(self, trial: Trial, state: str) -> None:
        """Put what became of a trial into its outbox."""
        final = {f"final/{name.removeprefix('val/')}": value for name, value in trial.values.items()}
        with Outbox(self._folder_of(trial).path) as outbox:
            if final:
                outbox.metrics(trial.step, final)
            outbox.tags({"sisr.state": state} | ({"sisr.message": trial.message} if trial.message else {}))
            outbox.status(MLFLOW_STATUS[state])

    def _drop_checkpoints(self, trial: Trial) -> None:
        """Free the disk of what a finished sweep doesn't need: the model of a finished trial is kept beside it."""
        folder = self._folder_of(trial)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        shutil.rmtree(folder.path / PINNED, ignore_errors=True)


def _pin(folder: RunFolder, step: int) -> None:
    """Keep the checkpoint of a slice's end until the next one's, whatever is pruned meanwhile; by hard links."""
    name = folder_name(step)
    fresh = folder.path / f".{PINNED}-new"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(folder.checkpoints / name, fresh / name, copy_function=os.link)
    shutil.rmtree(folder.path / PINNED, ignore_errors=True)
    fresh.rename(folder.path / PINNED)


def write_best(folder: Path, sweep: Sweep, best: Trial) -> Path:
    """Write the best trial's settings as a file for `sisr train RECIPE --config`, and return its path."""
    plan, path = sweep.plan, folder / BEST
    values = ", ".join(f"{name} {value:.5g}" for name, value in best.values.items())
    settings = {name: value for name, value in plan.fixed.items() if name != "steps"} | best.params
    header = [
        f"# {plan.recipe}: the best of {len(sweep.trials)} trials of sweep {plan.name}: trial {best.name}",
        f"# at step {best.step:,}: {values}",
        f"# sisr train {plan.recipe} --config {BEST} --data ... ; --steps N: the sweep's trials had {plan.steps:,}",
    ]
    unfinished = folder / f".{BEST}"
    unfinished.write_text("\n".join(header) + "\n" + yaml.safe_dump(settings, sort_keys=True))
    unfinished.replace(path)
    return path
