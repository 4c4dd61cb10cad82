"""From a command to a finished run: the part of training that happens in the driver, whatever hosts the loop."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sisr.disk.run_folder import RunFolder
from sisr.driver import next_steps
from sisr.driver.run import banner, record
from sisr.driver.run.hosts import RunHost, stop_on_signal
from sisr.driver.run.order import Order, place_init, prepare
from sisr.errors import DivergedError, SisrError, StoppedError
from sisr.metrics.catalogue import PSNR_Y, metric
from sisr.metrics.protocol import in_words
from sisr.storage.address import of_run
from sisr.storage.ownership import owned
from sisr.terminal.console import note
from sisr.terminal.displays import Display, by_set, plain, quality
from sisr.tracking import address, courier
from sisr.tracking.redact import redact_text
from sisr.training.run import Run
from sisr.training.validate import PROTOCOL

__all__ = ["Order", "Tracking", "execute", "prepare", "summary"]

DRAIN_S = 60.0  # how long the end of a run waits for what MLflow has not received
STOP_DRAIN_S = 8.0  # the same after a request to stop: a machine that is taken back gives 30 s in all


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where MLflow is."""

    uri: str | None = None  # None: a SQLite file beside the runs
    experiment: str | None = None  # as before, else sisr
    required: bool = False


def execute(order: Order, tracking: Tracking, host: RunHost) -> dict[str, Any]:
    """Train a run to its end, or go on with it, and return its last status.

    Raises:
        StoppedError: It was asked to stop and has saved its state.
        RunLockedError: Another process is executing it, or has taken it over.
        StorageError: It lies in object storage, which does not answer at its start or its end.
        DivergedError: Its numbers can't recover.
    """
    run, folder, data = prepare(order)
    with ExitStack() as stack:
        stack.enter_context(folder.lock())
        mirror = stack.enter_context(owned(folder, note))
        if tracking.required:
            courier.require(address.decide(folder.path, tracking.uri, tracking.experiment))
        resumed = record.take_up(run, folder, data, order.allow_changes)
        if resumed and record.is_finished(run, folder):
            words = ("train", "--from", run.name, "--name", run.name, "--steps", "MORE")
            note(f"run {run.name} is finished already; {next_steps.command(*words, runs=order.runs)} goes on")
            note(courier.start(folder.path, tracking.uri, tracking.experiment, note).finish(DRAIN_S).message)
            return {"run": run.name, "folder": str(folder.path), **folder.status()}
        if not resumed:
            place_init(order, run, folder)
        folder.clear_stop()
        record.announce(run, folder, data.facts, resumed)
        place = address.decide(folder.path, tracking.uri, tracking.experiment)
        banner.of_run(run, data.facts, place, order.runs)
        note(_few_held_out(data.facts))
        delivery = courier.start(folder.path, tracking.uri, tracking.experiment, note)
        status: dict[str, Any] = {"state": "failed"}
        given_up = False
        try:
            stack.enter_context(stop_on_signal(folder))
            display = stack.enter_context(Display(folder, banner.shorter(run), mirror.standing if mirror else None))
            status = host(run, folder, display.refresh)
            folder.confirm()
        except DivergedError:
            status = folder.status()
            raise
        except StoppedError as error:  # by its host: there was no room for its workers
            status = {**folder.status(), "state": "stopped", "message": str(error)}
            _write_status(folder, status)
            raise
        except KeyboardInterrupt:
            given_up = True
            raise
        except Exception as error:
            _write_status(folder, {**folder.status(), "state": "failed", "message": redact_text(str(error))})
            if not isinstance(error, SisrError):
                folder.keep_traceback(error)
            raise
        finally:
            _close(run, folder, status)
            note(delivery.finish(0.0 if given_up else drain_s(folder)).message)
    if status["state"] == "stopped":
        typed = next_steps.command("train", "--from", run.name, "--name", run.name, runs=order.runs)
        raise StoppedError(
            f"run {run.name} stopped at step {status['step']:,}; the same command goes on, or:\n  {typed}"
        )
    return {"run": run.name, "folder": str(folder.path), **status}


def drain_s(folder: RunFolder) -> float:
    """Return how long the end of a run or a sweep waits for what MLflow has not received."""
    return STOP_DRAIN_S if folder.stop_requested() else DRAIN_S


def _write_status(folder: RunFolder, status: dict[str, Any]) -> None:
    """Write a run's last status; the error that ended it counts more than one of the disk."""
    with suppress(OSError):
        folder.write_status(**status)


def _close(run: Run, folder: RunFolder, status: dict[str, Any]) -> None:
    """Record the run's end; on the way of an error nothing is raised over it."""
    failing = sys.exc_info()[1] is not None
    try:
        folder.confirm()  # another run's folder gets no records of ours
        record.close(run, folder, status)
    except OSError:
        if not failing:
            raise


def _few_held_out(facts: dict[str, Any]) -> str:
    """Return a warning where a single image is held out; else nothing."""
    if facts["held_out"] > 1:
        return ""
    return (
        f"warning: only 1 of {facts['held_out'] + facts['train']} images is held out, and what is measured on it says "
        "little of others: add images, or name a folder of others with --validation"
    )


def _of_sets(values: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    theirs = by_set(baseline)
    return [
        line
        for name, found in by_set(values).items()
        for line in (f"{name}: {quality(found)}", f"  by bicubic: {quality(theirs.get(name, {}))}")
    ]


def summary(status: dict[str, Any]) -> str:
    """Return what a finished run achieved, in a few lines."""
    values, best = plain(status["validation"]), status.get("best", {})
    place = of_run(Path(status["folder"])) or status["folder"]
    lines = [
        f"run {status['run']} finished at step {status['step']:,}",
        f"held-out images: {quality(values)}",
        f"bicubic:         {quality(status['baseline'])}",
        *_of_sets(values, status["baseline"]),
        f"measured {in_words(status.get('protocol', PROTOCOL.format(lr='recipe-lr')))}",
        f"model: {place}/model    samples: {place}/samples",
    ]
    if message := status.get("message"):
        lines.insert(1, message)
    by, before = best.get("by", PSNR_Y.name).removeprefix("val/"), plain(best)
    if by in values and by in before and metric(by).gain(before[by], values[by]) > metric(by).noticeable:
        lines.append(f"an earlier checkpoint was better: {quality(before)} at step {best['step']:,} (kept)")
    return "\n".join([*lines, *_begun_better(RunFolder(Path(status["folder"])), by, before or values)])


def _begun_better(folder: RunFolder, by: str, best: Mapping[str, float]) -> list[str]:
    """Return a line where the weights that a run began with were better, by the metric `by`, than any it came to."""
    step, first = next(iter(folder.evaluations()), (0, {}))
    values = plain(first)
    if step or by not in values or by not in best or metric(by).gain(values[by], best[by]) <= metric(by).noticeable:
        return []
    return [f"what it began with was better: {quality(values)} at step 0; no checkpoint gains by {metric(by).title}"]
