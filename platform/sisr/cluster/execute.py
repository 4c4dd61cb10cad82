"""From a command to a finished run: the part of training that happens in the driver, whatever hosts the loop."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sisr import recipes
from sisr.cluster import record
from sisr.cluster.hosts import Host, stop_on_signal
from sisr.config import build
from sisr.console import err
from sisr.data.sources import absolute, open_source
from sisr.display import Display
from sisr.errors import DivergedError, StoppedError
from sisr.tracking import address, courier
from sisr.tracking.redact import redact_text
from sisr.training.dataset import TrainingData, open_data
from sisr.training.folder import RunFolder
from sisr.training.loop import share_of_batch
from sisr.training.run import Options, Run, check_name
from sisr.training.validate import PROTOCOL

DRAIN_S = 60.0


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


def prepare(order: Order) -> tuple[Run, RunFolder, TrainingData]:
    """Check an order, pack its images, and return the run, its folder and its data.

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
    data = open_data(run, recipe, show=True)
    run = run.model_copy(update={"fingerprint": data.fingerprint})
    if order.name is None:
        run = run.model_copy(update={"name": f"{order.recipe}-{run.config_hash}"})
    return run, RunFolder(order.runs / run.name), data


def execute(order: Order, tracking: Tracking, host: Host) -> dict[str, Any]:
    """Train a run to its end, or go on with it, and return its last status.

    Raises:
        StoppedError: It was asked to stop and has saved its state.
        RunLockedError: Another process is executing it.
        DivergedError: Its numbers can't recover.
    """
    run, folder, data = prepare(order)
    with ExitStack() as stack:
        stack.enter_context(folder.lock())
        if tracking.required:
            courier.require(address.decide(folder.path, tracking.uri, tracking.experiment).tracking_uri)
        resumed = record.take_up(run, folder, data, order.allow_changes)
        if resumed and record.is_finished(run, folder):
            err.print(f"run {run.name} is finished already; more --steps would go on", markup=False)
            delivered = courier.start(folder.path, tracking.uri, tracking.experiment, say).finish(DRAIN_S)
            say(delivered.message)
            return {"run": run.name, "folder": str(folder.path), **folder.status()}
        folder.clear_stop()
        record.announce(run, folder, data.facts, resumed)
        delivery = courier.start(folder.path, tracking.uri, tracking.experiment, say)
        status: dict[str, Any] = {"state": "failed"}
        drain_s = DRAIN_S
        try:
            stack.enter_context(stop_on_signal(folder))
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
            record.close(run, folder, status)
            delivered = delivery.finish(drain_s)
            say(delivered.message)
    if status["state"] == "stopped":
        raise StoppedError(f"run {run.name} stopped at step {status['step']}; the same command goes on from there")
    return {"run": run.name, "folder": str(folder.path), **status}


def say(message: str) -> None:
    """Tell the user something about delivery, if there is something."""
    if message:
        err.print(message, markup=False)


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
