"""From a command to a searched space: a sweep is planned, driven and reported; Ray Tune runs its trials."""

from contextlib import ExitStack

from sisr.cluster import connection
from sisr.data.index import changes as changed_files
from sisr.disk.code_revision import code_revision
from sisr.disk.run_folder import RunFolder
from sisr.driver.run.execute import DRAIN_S, Tracking, say
from sisr.driver.run.hosts import stop_on_signal
from sisr.driver.sweep.driver import Driver
from sisr.driver.sweep.order import Order, Wanted, plan_of, prepare
from sisr.errors import ConfigError, DataError, StoppedError
from sisr.sweep import plan as plans
from sisr.sweep.ledger import Ledger
from sisr.sweep.plan import Plan
from sisr.sweep.report.live import SweepDisplay
from sisr.sweep.state import Sweep
from sisr.tracking import address, courier
from sisr.training.dataset import TrainingData
from sisr.training.run import versions

__all__ = ["Order", "Tracking", "Wanted", "execute", "plan_of", "prepare"]


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
        delivery = courier.start(folder.path, tracking.uri, tracking.experiment, say)
        drain_s = DRAIN_S
        try:
            if ledger.was_finished and driver.finished():
                say(f"sweep {plan.name} is finished already; more --trials would go on")
                ledger.write("sweep", state="finished")
                return ledger.sweep
            driver.take_up()
            stack.enter_context(stop_on_signal(folder))
            with SweepDisplay(folder.path, ledger.sweep) as display:
                driver.run(display.refresh)
            driver.close()
        except BaseException as error:
            driver.retire()
            connection.shutdown()
            driver.abandon(error)
            drain_s = 0.0 if isinstance(error, KeyboardInterrupt) else drain_s
            raise
        finally:
            connection.shutdown()
            say(delivery.finish(drain_s).message)
    if ledger.sweep.state == "stopped":
        raise StoppedError(f"sweep {plan.name} stopped; every trial is saved, and the same command goes on from there")
    return ledger.sweep


def _take_up(plan: Plan, folder: RunFolder, data: TrainingData) -> None:
    """Record a new sweep, or make sure that an old one may go on.

    Raises:
        ConfigError: A sweep of this name exists and is another one.
        DataError: It is the same one, and its images have changed.
    """
    previous = plans.read(folder.path)
    if previous is None and (folder.path / "run.json").exists():
        raise ConfigError(f"{folder.path} holds a run, not a sweep: choose another --name")
    if previous is not None:
        changed = _changes(previous, plan)
        wrong = ConfigError if changed else DataError
        if previous.fingerprint != plan.fingerprint:
            changed.append(f"images of {plan.data}: {changed_files(folder.file_hashes(), data.hashes)}")
        if changed:
            raise wrong(
                f"sweep {plan.name} exists and differs: {'; '.join(changed)}. Choose another --name, or the same "
                f"settings and images, or remove {folder.path} to start anew"
            )
        if previous == plan:
            return
    folder.record_files(data.hashes)
    plans.write(folder.path, plan, {"versions": versions(), "code": code_revision(), "data": data.facts})


def _changes(old: Plan, new: Plan) -> list[str]:
    """Return in words what makes a plan another sweep; more trials don't, and images are another question."""
    found = [f"trials {old.trials} -> {new.trials}"] if new.trials < old.trials else []
    if old.recipe_source != new.recipe_source:
        found.append("recipe file changed")
    before, now = (plan.model_dump(exclude={"trials", "recipe_source", "fingerprint"}) for plan in (old, new))
    for name in now:
        if before[name] == now[name]:
            continue
        if not isinstance(now[name], dict):
            found.append(f"{name} {before[name]} -> {now[name]}")
            continue
        for key in sorted(before[name].keys() | now[name].keys()):
            one, other = before[name].get(key), now[name].get(key)
            if one != other:
                found.append(f"{name}.{key} {one} -> {other}")
    return found
