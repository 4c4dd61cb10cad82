"""From a command to a searched space: a sweep is planned, driven and reported; its host runs the trials."""

from contextlib import ExitStack
from pathlib import Path

import sisr.errors
from sisr.data.index import changes as changed_files
from sisr.disk.code_revision import code_revision
from sisr.disk.run_folder import RunFolder
from sisr.disk.sweep_folder import FILE, TRIALS
from sisr.driver.run import banner
from sisr.driver.run.execute import Tracking, drain_s
from sisr.driver.run.hosts import stop_on_signal, ticking
from sisr.driver.sweep.check import first_run, place_first_weights
from sisr.driver.sweep.driver import Driver
from sisr.driver.sweep.host import SweepHost
from sisr.driver.sweep.planning import changes, prepare
from sisr.errors import CheckpointError, ConfigError, DataError, DivergedError, SisrError, StoppedError
from sisr.storage.ownership import owned
from sisr.sweep import earlier
from sisr.sweep import plan as plans
from sisr.sweep.ledger import Ledger
from sisr.sweep.plan import Plan
from sisr.sweep.report.live import SweepDisplay
from sisr.sweep.searchers import Searchers
from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import LEDGER, LOST, Sweep, records
from sisr.terminal.console import note
from sisr.tracking import address, courier
from sisr.training.dataset import TrainingData
from sisr.training.run import versions
from sisr.training.validation_sets import changed_sets, of_no_set


def execute(
    plan: Plan,
    space: SearchSpace,
    host: SweepHost,
    tracking: Tracking,
    *,
    runs: Path = Path("runs"),
    recipe: str = "",
    allow_changes: bool = False,
    searchers: Searchers | None = None,
) -> Sweep:
    """Search to the end, or go on with it, and return the sweep.

    `recipe` finds the recipe, perhaps a file; empty: the plan's name for it. `allow_changes` goes on with a sweep that
    had other settings or images. `searchers` are asked for the next trial where the plan names one of them.

    Raises:
        StoppedError: It was asked to stop; every trial has saved its state.
        RunLockedError: Another process is executing it, or has taken it over.
        StorageError: It lies in object storage, which does not answer at its start or its end.
    """
    plan, folder, data = prepare(plan, space, runs, host.workers)
    for line in earlier.described(plan.earlier, plan.fingerprint):
        note(line)
    with ExitStack() as stack:
        stack.enter_context(folder.lock())
        stack.enter_context(owned(folder, note))
        check_experiment(plan, folder, tracking)
        place = address.decide(folder.path, tracking.uri, tracking.experiment)
        if tracking.required:
            courier.require(place)
        take_up(plan, folder, data, allow_changes)
        place_first_weights(plan, space, folder, runs)
        ledger = Ledger(folder.path)
        stack.callback(ledger.close)
        folder.clear_stop()
        banner.of_sweep(plan, first_run(plan, space), space, data.facts, place, runs)
        driver = Driver(folder, ledger, space, recipe or plan.recipe, data.facts, data.held_out, searchers)
        delivery = courier.start(folder.path, tracking.uri, tracking.experiment, note)
        given_up = False
        try:
            if ledger.was_finished and driver.finished():
                note(f"sweep {plan.name} is finished already; more --trials would go on")
                ledger.write("sweep", state="finished")
                return ledger.sweep
            driver.take_up()
            stack.enter_context(stop_on_signal(folder))
            if not driver.finished():
                with SweepDisplay(folder.path, ledger.sweep) as display, ticking(display.refresh):
                    host.run(driver, folder.path.resolve(), plan.trials)
            driver.close()
        except BaseException as error:
            host.close()
            driver.abandon(error)
            given_up = isinstance(error, KeyboardInterrupt)
            raise
        finally:
            host.close()
            note(delivery.finish(0.0 if given_up else drain_s(folder)).message)
    if ledger.sweep.state == "stopped":
        raise StoppedError(f"sweep {plan.name} stopped; every trial is saved, and the same command goes on from there")
    return ledger.sweep


def check_experiment(plan: Plan, folder: RunFolder, tracking: Tracking) -> None:
    """Raise ConfigError where new trials would be recorded in another MLflow experiment than their sweep."""
    before = address.decide(folder.path, tracking.uri)
    if before.run_id is not None and tracking.experiment not in (None, before.experiment):
        raise ConfigError(
            f"sweep {plan.name} is recorded in MLflow experiment '{before.experiment}', where its trials belong, too: "
            f"leave out --experiment {tracking.experiment}, or choose another --name"
        )


def nothing_found(sweep: Sweep, folder: Path) -> SisrError:
    """Return the error of a finished sweep that has no best trial: what its first lost trial ended with."""
    lost = next((trial for trial in sweep.trials if trial.state in LOST), None)
    cause = f"; trial {lost.number} {lost.state}: {lost.message}" if lost else ""
    kind: type[SisrError] = getattr(sisr.errors, lost.error, SisrError) if lost and lost.error else DivergedError
    return kind(f"no trial of sweep {sweep.plan.name} could be evaluated{cause} (all: {folder}/results/index.html)")


def take_up(plan: Plan, folder: RunFolder, data: TrainingData, allow_changes: bool) -> None:
    """Record a new sweep, or make sure that an old one may go on.

    Raises:
        ConfigError: A sweep of this name exists and is another one.
        DataError: It is the same one, and its images have changed.
        CheckpointError: There are trials of which nobody knows the settings any more.
    """
    previous, changed = plans.read(folder.path), list[str]()
    if previous is None and folder.run.exists():
        raise ConfigError(f"{folder.path} holds a run, not a sweep: choose another --name")
    if any(folder.path.glob(f"{TRIALS}/*/checkpoints/step_*")) and (previous is None or not records(folder.path)):
        raise CheckpointError(
            f"{folder.path} holds trials, but not both {FILE} and {LEDGER}, which describe them: restore the "
            "file that is gone, choose another --name, or remove the folder to start anew"
        )
    if previous is not None:
        changed = changes(previous, plan)
        wrong, before = ConfigError if changed else DataError, folder.file_hashes()
        if previous.fingerprint != plan.fingerprint:
            changed.append(f"images of {plan.data}: {changed_files(of_no_set(before), of_no_set(data.hashes))}")
        fingerprints = previous.validation_fingerprints, plan.validation_fingerprints
        changed += changed_sets(*fingerprints, before, data.hashes)
        if changed and not (allow_changes and previous.recipe == plan.recipe):
            raise wrong(
                f"sweep {plan.name} exists and differs: {'; '.join(changed)}. Choose another --name, give "
                f"--allow-changes to go on with the new ones, or remove {folder.path} to start anew"
            )
        if previous == plan:
            return
    folder.record_files(data.hashes)
    facts = {"versions": versions(), "code": code_revision(), "data": data.facts}
    plans.write(folder.path, plan, facts, changed)
