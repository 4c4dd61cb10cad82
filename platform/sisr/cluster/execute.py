"""From a command to a finished run: the part of training that happens in the driver, whatever hosts the loop."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sisr import recipes
from sisr.cluster import train
from sisr.config import build
from sisr.console import err
from sisr.data.sources import absolute, open_source
from sisr.display import Display
from sisr.errors import ConfigError, DataError, DivergedError, StoppedError
from sisr.tracking import address, courier
from sisr.tracking.outbox import Outbox, Status
from sisr.tracking.redact import redact_text
from sisr.training import local
from sisr.training.dataset import open_data
from sisr.training.loop import share_of_batch
from sisr.training.run import FREE_CONFIG, FREE_OPTIONS, Options, Run, RunFolder, check_name, code_revision, versions
from sisr.training.validate import PROTOCOL

MLFLOW_STATUS: dict[str, Status] = {"finished": "FINISHED", "stopped": "KILLED"}
DRAIN_S = 60.0

Host = Callable[[Run, RunFolder, Callable[[], None]], dict[str, Any]]  # (run, folder, tick) -> the run's last status


@dataclass(frozen=True, kw_only=True)
class Order:
    """What somebody asked to train."""

    recipe: str
    values: dict[str, Any] = field(default_factory=dict)  # of the recipe's Config, not yet checked
    options: Options = field(default_factory=Options)
    data: str = "demo"
    validation: str | None = None
    name: str | None = None  # None: made from the recipe and a hash of everything that makes another run
    runs: Path = Path("runs")
    workers: int = 1
    allow_changes: bool = False
    source: str = "--set"  # where `values` were written, for messages


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where MLflow is."""

    uri: str | None = None  # None: a SQLite file beside the runs
    experiment: str = "sisr"
    required: bool = False


def prepare(order: Order) -> tuple[Run, RunFolder, dict[str, Any]]:
    """Check an order, pack its images, and return the run, its folder and facts about the data.

    Raises:
        ConfigError: The recipe, a setting or the name can't be used.
        DataError: The images can't be used.
    """
    recipes.check(order.recipe)
    if order.name is not None:
        check_name(order.name)
    config = build(recipes.load(order.recipe).Config, order.values, source=order.source)
    open_source(order.data, order.validation)  # an error names the source as it was written
    share_of_batch(config.batch_size, order.workers, order.options.accumulate)
    run = Run(
        name=order.name or order.recipe,
        recipe=order.recipe,
        config=config.model_dump(mode="json"),
        options=order.options,
        data=absolute(order.data),
        validation=None if order.validation is None else absolute(order.validation),
    )
    with torch.device("meta"):  # shapes only: what can't be built is said here, before anything starts
        recipe = run.build_recipe()
    data = open_data(run, recipe.crop, recipe.scale, show=True)
    run = run.model_copy(update={"fingerprint": data.fingerprint})
    if order.name is None:
        run = run.model_copy(update={"name": f"{order.recipe}-{run.config_hash}"})
    return run, RunFolder(order.runs / run.name), data.facts


def execute(order: Order, tracking: Tracking, host: Host) -> dict[str, Any]:
    """Train a run to its end, or go on with it, and return its last status.

    Raises:
        StoppedError: It was asked to stop and has saved its state.
        RunLockedError: Another process is executing it.
        DivergedError: Its numbers can't recover.
    """
    run, folder, facts = prepare(order)
    with ExitStack() as stack:
        stack.enter_context(folder.lock())
        if tracking.required:
            courier.require(address.decide(folder.path, tracking.uri, tracking.experiment).tracking_uri)
        resumed = _take_up(run, folder, facts, order.allow_changes)
        if resumed and _is_finished(run, folder):
            err.print(f"run {run.name} is finished already; more --steps would go on", markup=False)
            delivered = courier.start(folder.path, tracking.uri, tracking.experiment, _say).finish(DRAIN_S)
            _say(delivered.message)
            return {"run": run.name, "folder": str(folder.path), **folder.status()}
        folder.clear_stop()
        _announce(run, folder, facts, resumed)
        delivery = courier.start(folder.path, tracking.uri, tracking.experiment, _say)
        status: dict[str, Any] = {"state": "failed"}
        drain_s = DRAIN_S
        try:
            stack.enter_context(_stop_on_signal(folder))
            display = stack.enter_context(Display(folder))
            status = host(run, folder, display.refresh)
        except DivergedError:
            status = folder.status()
            raise
        except KeyboardInterrupt:
            drain_s = 0.0
            raise
        except Exception as error:
            folder.write_status(**{**folder.status(), "state": "failed", "message": redact_text(str(error))})
            raise
        finally:
            _close(run, folder, status)
            delivered = delivery.finish(drain_s)
            _say(delivered.message)
    if status["state"] == "stopped":
        raise StoppedError(f"run {run.name} stopped at step {status['step']}; the same command goes on from there")
    return {"run": run.name, "folder": str(folder.path), **status}


def in_process(run: Run, folder: RunFolder, tick: Callable[[], None]) -> dict[str, Any]:
    """Host the loop in this very process; a thread shows its progress."""
    with Outbox(folder.path) as log, _ticking(tick):
        return local.train_here(run, folder, log)


def in_processes(workers: int, run: Run, folder: RunFolder, tick: Callable[[], None]) -> dict[str, Any]:
    """Host the loop in plain processes on this machine."""
    with _ticking(tick):
        return local.train_in_processes(run, folder, workers, Outbox)


def on_ray(scaling: train.Scaling, run: Run, folder: RunFolder, tick: Callable[[], None]) -> dict[str, Any]:
    """Host the loop on Ray Train's workers."""
    try:
        return train.fit(run, folder, scaling, tick)
    finally:
        train.shutdown()


def _say(message: str) -> None:
    if message:
        err.print(message, markup=False)


def _take_up(run: Run, folder: RunFolder, facts: dict[str, Any], allow_changes: bool) -> bool:
    """Record a new run, or make sure that an old one may go on; return whether it goes on."""
    previous = folder.read()
    if previous is None or not any(folder.checkpoints.glob("step_*")):  # nothing learned yet: nothing to mix up
        folder.record(run, {"data": facts})
        return False
    changes = _changes(previous, run)
    if changes and _is_finished(previous, folder) and run.config["steps"] <= previous.config["steps"]:
        listed = "; ".join(changes)
        raise ConfigError(f"run {run.name} is finished, with other settings: {listed}. Choose another --name")
    if changes and not allow_changes:
        listed = "; ".join(changes)
        wrong = DataError if changes[0].startswith("images") else ConfigError
        raise wrong(
            f"run {run.name} exists with other settings: {listed}. Choose another --name, or give --allow-changes "
            "to go on from its last checkpoint with the new ones"
        )
    if previous != run:
        folder.record(run, {"data": facts, "changed": changes})
    return True


def _is_finished(run: Run, folder: RunFolder) -> bool:
    status = folder.status()
    return status.get("state") == "finished" and status["step"] >= run.config["steps"] and folder.model.is_dir()


def _changes(old: Run, new: Run) -> list[str]:
    """Return in words what differs between two descriptions of a run and shapes its result."""
    if old.recipe != new.recipe:
        return [f"recipe {old.recipe} -> {new.recipe}"]
    found = []
    if old.fingerprint != new.fingerprint:
        found.append(f"images of {old.data} -> {new.data} (their files or contents differ)")
    pairs = [
        (old.config, new.config, FREE_CONFIG),
        (old.options.model_dump(), new.options.model_dump(), FREE_OPTIONS),
    ]
    for before, after, free in pairs:
        for name in sorted(before.keys() | after.keys()):
            if name not in free and before.get(name) != after.get(name):
                found.append(f"{name} {before.get(name)} -> {after.get(name)}")
    return found


def _announce(run: Run, folder: RunFolder, facts: dict[str, Any], resumed: bool) -> None:
    """Put what identifies the run into its outbox, before step 0."""
    described = {"recipe": run.recipe, "data": run.data, **run.config}
    described |= {f"run.{name}": value for name, value in run.options.model_dump().items()}
    code = code_revision()
    tags = {
        "sisr.recipe": run.recipe,
        "sisr.config_hash": run.config_hash,
        "sisr.data_fingerprint": run.fingerprint,
        "sisr.data": facts,
        "sisr.validation_protocol": PROTOCOL,
        "sisr.folder": str(folder.path.resolve()),
        **{f"version.{name}": version for name, version in versions().items()},
    }
    if code:
        tags |= {"mlflow.source.git.commit": code["revision"], "sisr.code_changed": code["changed"]}
    with Outbox(folder.path) as outbox:
        outbox.params(described)
        outbox.tags(tags)
        outbox.status("RUNNING")
        outbox.artifact("run.json")
    if resumed:
        err.print(f"run {run.name} goes on from its last checkpoint", markup=False)


def _close(run: Run, folder: RunFolder, status: dict[str, Any]) -> None:
    """Put what became of the run into its outbox."""
    with Outbox(folder.path) as outbox:
        for metric in ("psnr_y", "ssim_y"):
            value = status.get("validation", {}).get(f"val/{metric}")
            if value is not None:
                outbox.metrics(int(status["step"]), {f"final/{metric}": value})
        outbox.tags({"sisr.state": status["state"], "sisr.checkpoints": _checkpoint_references(folder)})
        if status["state"] == "finished":
            outbox.artifact("model", "generator")
            outbox.model("model")
        outbox.status(MLFLOW_STATUS.get(status["state"], "FAILED"))


def _checkpoint_references(folder: RunFolder) -> dict[str, str]:
    """Return where each kept checkpoint lies, with the digest of the state it holds."""
    found = {}
    for path in sorted(folder.checkpoints.glob("step_*/manifest.json")):
        found[str(path.parent.resolve())] = json.loads(path.read_text())["digest"]
    return found


@contextmanager
def _stop_on_signal(folder: RunFolder) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a request to stop, and a second one into KeyboardInterrupt."""

    def stop(number: int, frame: object) -> None:
        if folder.stop_requested():
            raise KeyboardInterrupt
        folder.request_stop()
        os.write(2, b"\nstopping after this step and saving; a second signal stops at once\n")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Call `tick` twice a second from a thread while the block runs."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.5):
            tick()

    thread = threading.Thread(target=work, name="display", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def summary(status: dict[str, Any]) -> str:
    """Return what a finished run achieved, in a few lines."""
    values, baseline, best = status["validation"], status["baseline"], status.get("best", {})
    lines = [
        f"run {status['run']} finished at step {status['step']:,}",
        f"held-out images: {values['val/psnr_y']:.2f} dB PSNR-Y, {values['val/ssim_y']:.4f} SSIM-Y "
        f"(bicubic {baseline['psnr_y']:.2f} dB, {baseline['ssim_y']:.4f}; {PROTOCOL})",
        f"model: {status['folder']}/model    samples: {status['folder']}/samples",
    ]
    if best.get("val/psnr_y", 0) > values["val/psnr_y"] + 0.05:
        lines.append(f"an earlier checkpoint was better: {best['val/psnr_y']:.2f} dB at step {best['step']:,} (kept)")
    return "\n".join(lines)
