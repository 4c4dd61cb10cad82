"""The training loop: one function, read from top to bottom, unchanged in a plain process, in Ray Train and in Tune."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sisr.data.batches import Batches, Prefetcher, to_hr
from sisr.data.draws import Draws
from sisr.disk import atomic
from sisr.disk.run_folder import RunFolder
from sisr.errors import DivergedError, OutOfMemoryError
from sisr.models.files import save_model
from sisr.recipe import parts_of, roles_of, stepped_networks
from sisr.training import initial, precision
from sisr.training.checkpoint import MANIFEST, Checkpoints
from sisr.training.contract import require_scalars
from sisr.training.dataset import open_data
from sisr.training.ema import Ema
from sisr.training.guard import Guard
from sisr.training.health import Warnings, best_metric, of_step
from sisr.training.memory import advice, is_out_of_memory
from sisr.training.progress import Progress
from sisr.training.run import Run, take_effect, versions
from sisr.training.session import Log, Session, Wish, agree, mean_over_workers, weighted
from sisr.training.shares import share_of
from sisr.training.state import TrainingState, assert_same_start, seed_everything
from sisr.training.update import Updates
from sisr.training.validate import Validation, save_picture


def train(run: Run, folder: RunFolder, session: Session, log: Log) -> dict[str, Any]:
    """Train a run from its newest checkpoint, or from the start, to its end or until it is asked to stop.

    Args:
        run: What to execute; equal on all workers.
        folder: Holds checkpoints, samples and status; shared by all workers.
        session: This worker's place.
        log: Of the first worker; others pass a `NoLog`.

    Returns:
        The run's status: `state` ("finished" or "stopped"), `step`, and the last and best validation.

    Raises:
        DivergedError: The numbers can't recover; the last good checkpoint is kept.
    """
    options, device = run.options, session.device
    folder.path.mkdir(parents=True, exist_ok=True)
    config = run.recipe_config()
    number_format = precision.resolve(options.precision, device)
    dtype = precision.parameter_dtype(number_format)

    # Build the recipe; every worker draws the same initial weights.
    if options.threads:
        torch.set_num_threads(options.threads)
    seed_everything(options.seed)
    recipe = run.build_recipe()
    parts, roles = parts_of(recipe), roles_of(recipe)
    _place(parts, device, dtype, options.channels_last)
    updates = Updates(
        {name: part for name, part in parts.items() if isinstance(part, Optimizer)},
        world=session.world,
        accumulate=options.accumulate,
        clip_norm=options.clip_norm,
        scaled=number_format == "fp16",
    )
    ema = Ema(recipe.generator, options.ema_half_life_images)
    guard = Guard(session, scaled=number_format == "fp16", pixel_loss=roles.pixel_loss)
    seed_everything(options.seed + 1 + session.rank)

    # Restore.
    checkpoints = Checkpoints(folder.checkpoints, options.keep_checkpoints, folder.warn)
    state = TrainingState(parts, ema.network, {"updates": updates, "guard": guard})
    saved = checkpoints.newest()
    if saved:
        state.restore(saved[1], session)
    elif run.init:
        initial.start_from(folder.init, run, recipe.generator, ema.network)
    assert_same_start(state.step, session)
    if saved and session.rank == 0:
        checkpoints.set_aside_newer(saved[0])
        _say_what_differs(saved[0], session, number_format, folder, log)
        take_effect(folder)
    if options.compile:
        _compile(parts)

    # Open the data.
    share = share_of(config.batch_size, session.rank, session.world, options.accumulate)
    data = open_data(run, recipe)
    session.wait_for_others()
    validation = Validation(data.validation, recipe, session, dtype, options.perceptual)
    log.tags({"sisr.validation_protocol": validation.protocol})
    warnings = Warnings(folder, log, config.steps)
    batches = Batches(data.store, recipe.crop, config.batch_size, options.seed)
    # On a CPU a thread would only take time, and Python's lock, from the threads that train.
    depth = 0 if device.type == "cpu" else 2
    prefetcher = Prefetcher(batches, share.first, sum(share.counts), state.step, device, depth=depth)
    facts = {"baseline": validation.baseline, "protocol": validation.protocol}
    progress = Progress(folder, session, config.steps, config.batch_size, state.step, prefetcher, facts)
    scalars: dict[str, Tensor] = {}

    def evaluate(done: int, healthy: bool = True) -> None:
        """Validate, show and report the averaged generator; call it the best only where a checkpoint will keep it."""
        found = validation(ema.network)
        values = {f"val/{name}": value for name, value in found.metrics.items()}
        guard.check_validation(done, values, scalars)
        health = found.health | of_step(
            mean_over_workers(scalars, session), updates.norms, roles, stepped_networks(parts)
        )
        judged_by = best_metric(roles, values)
        if done and healthy and values[judged_by] > state.best.get(judged_by, float("-inf")):
            state.best = {"step": done, "by": judged_by, **values}
        if session.rank == 0:
            log.metrics(done, values | {f"health/{name}": value for name, value in health.items()})
            warnings.look(done, values, health, validation.baseline)
            with _disk_errors_reported(folder):
                picture = folder.samples / "val" / f"step_{done:09d}.png"
                save_picture(validation.grid(ema.network, options.sample_rows), picture)
                log.image(done, "val/samples", str(picture.relative_to(folder.path)))
        progress.validated(done, values, state.best)
        session.report(done, values)

    def save(done: int) -> None:
        """Write a checkpoint from the first worker; all of them take part."""
        state.step = done
        captured = state.capture(session)
        if session.rank == 0:
            meta = model_meta(run, done, progress.validation_at(done), validation.protocol)
            wrote = checkpoints.save(
                done,
                captured,
                lambda path: save_model(path, ema.network, meta),
                {"world": session.world, "threads": torch.get_num_threads(), "config_hash": run.config_hash}
                | {"fingerprint": run.fingerprint, "precision": number_format, "versions": versions()},
            )
            with _disk_errors_reported(folder):
                if wrote and state.best:
                    atomic.write_json(folder.best, state.best)
                log.flush()
            checkpoints.prune(state.best.get("step"))
            session.saved(done)

    try:
        if state.step == 0 and session.rank == 0:
            log.metrics(0, {f"val/bicubic_{name}": value for name, value in validation.baseline.items()})
        if state.step == 0 or state.step >= config.steps:  # before the first step; or killed before publishing
            evaluate(state.step)
        if saved and state.step < config.steps and agree(session.wish(state.step), session) is Wish.STOP:
            return progress.ended("stopped", state.step)
        for step in range(state.step, config.steps):
            # Take the step.
            taken = prefetcher.next().split(share.counts)
            for micro, (part, pixels) in enumerate(zip(share.micro, taken, strict=True)):
                draws = Draws(options.seed, step, part.first, part.count, device)
                hr = to_hr(pixels, recipe.crop, draws, dtype, options.channels_last)
                lr = recipe.degrade(hr, draws)
                updates.begin(micro, part.weight)
                with precision.autocast(number_format, device):
                    scalars = recipe.train_step(lr, hr, draws, step, updates)
                require_scalars(scalars, f"recipe {run.recipe}")
            scalars = weighted(scalars, share.scalar_weight)
            done = step + 1
            guard.check(step, updates.skipped, scalars)
            ema.update(recipe.generator, done * config.batch_size, config.batch_size)

            # Log.
            if done % options.log_every == 0 or done == config.steps:
                log.metrics(done, progress.logged(done, mean_over_workers(scalars, session), updates.norms))

            # Evaluate and save.
            last = done == config.steps
            due = done % options.evaluate_every == 0 or last
            if due:
                evaluate(done, guard.is_healthy())
            wish = agree(session.wish(done), session)
            if (due or wish is not Wish.GO_ON) and guard.is_healthy():
                save(done)
            if wish is Wish.STOP and not last:
                return progress.ended("stopped", done)
    except DivergedError as error:
        progress.ended("diverged", progress.step, str(error))
        raise
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(advice(run, recipe.crop.side, max(share.counts), session)) from error
    finally:
        prefetcher.close()

    # Publish the averaged generator.
    if session.rank == 0:
        unfinished = folder.path / ".model"
        meta = model_meta(run, state.step, progress.validation_at(state.step), validation.protocol)
        save_model(unfinished, ema.network, meta)
        shutil.rmtree(folder.model, ignore_errors=True)
        unfinished.rename(folder.model)
    return progress.ended("finished", state.step)


def model_meta(run: Run, step: int, metrics: dict[str, float], protocol: str) -> dict[str, Any]:
    """Return what `sisr.models` keeps beside the weights."""
    config = run.recipe_config()
    facts = {"run": run.name, "step": step, "metrics": metrics, "data": run.data, "fingerprint": run.fingerprint}
    facts["metrics_protocol"] = protocol
    facts |= {"recipe_source": run.recipe_source} if run.recipe_source else {}
    return {"recipe": run.recipe, "config": run.config, "scale": config.scale, **facts, "versions": versions()}


def _say_what_differs(restored: Path, session: Session, number_format: str, folder: RunFolder, log: Log) -> None:
    """Say when a resumed run can't be byte for byte what it would have been undisturbed."""
    before = json.loads((restored / MANIFEST).read_text())
    now = {"world": session.world, "threads": torch.get_num_threads(), "precision": number_format}
    changed = [f"{name} {before[name]} -> {value}" for name, value in now.items() if before.get(name) != value]
    if changed:
        folder.warn(f"not bit-exact from step {before['step']} on: {', '.join(changed)}")
        log.tags({"sisr.not_bit_exact": f"from step {before['step']}: {', '.join(changed)}"})


@contextmanager
def _disk_errors_reported(folder: RunFolder) -> Iterator[None]:
    """Let training go on when something beside a checkpoint can't be written."""
    try:
        yield
    except OSError as error:
        with suppress(OSError):
            folder.warn(f"could not be written, training goes on: {error}")


def _place(parts: dict[str, Any], device: torch.device, dtype: torch.dtype, channels_last: bool) -> None:
    for part in parts.values():
        if isinstance(part, nn.Module):
            part.to(device=device, dtype=dtype)
            if channels_last:
                part.to(memory_format=torch.channels_last)


def _compile(parts: dict[str, Any]) -> None:
    for part in parts.values():
        if isinstance(part, nn.Module):
            part.compile()
