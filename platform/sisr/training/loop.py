"""The training loop: one function, read from top to bottom, unchanged in a plain process, in Ray Train and in Tune."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sisr.data.augment import to_hr
from sisr.data.batches import Batches, Prefetcher
from sisr.data.draws import Draws
from sisr.disk import atomic
from sisr.disk.run_folder import RunFolder
from sisr.errors import DivergedError, OutOfMemoryError
from sisr.models.files import save_model
from sisr.recipe import parts_of, roles_of, stepped_networks
from sisr.training import origin
from sisr.training.batch_split import split_batch
from sisr.training.checkpoint import Checkpoints
from sisr.training.contract import require_scalars
from sisr.training.dataset import open_data
from sisr.training.device import autocast, is_out_of_memory, memory_advice, resolve
from sisr.training.ema import Ema
from sisr.training.guard import Guard
from sisr.training.health import Warnings, best_metric, of_step
from sisr.training.progress import Progress
from sisr.training.run import Run, take_effect, versions
from sisr.training.session import Log, Request, Session, agree, mean_over_workers, weighted
from sisr.training.state import TrainingState, assert_same_start, seed_everything
from sisr.training.update import Updates
from sisr.training.validate import Validation, save_picture


def train(run: Run, folder: RunFolder, session: Session, log: Log) -> dict[str, Any]:
    """Train a run from its newest checkpoint, or from the start, to its end or until it is asked to stop.

    All workers get the same `run` and share the `folder`; those other than the first pass a `NoLog`.

    Returns:
        The run's status: `state` ("finished" or "stopped"), `step`, and the last and best validation.

    Raises:
        DivergedError: The numbers can't recover; the last good checkpoint is kept, where there is one.
        DiskError: Checkpoints can't be written again and again, or the folder is no longer this run's.
    """
    options, device = run.options, session.device
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.claim()
    config = run.recipe_config()
    number_format = resolve(options.precision, device)
    dtype = torch.float64 if number_format == "fp64" else torch.float32  # of parameters and images

    # Build the recipe; every worker draws the same initial weights.
    if options.threads:
        torch.set_num_threads(options.threads)
    seed_everything(options.seed)
    recipe = run.build_recipe()
    parts, roles = parts_of(recipe), roles_of(recipe)
    networks = [part for part in parts.values() if isinstance(part, nn.Module)]
    for network in networks:
        network.to(device=device, dtype=dtype)
        if options.channels_last:
            network.to(memory_format=torch.channels_last)
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
        origin.start_from(folder.init, run, recipe.generator, ema.network)
    assert_same_start(state.step, session)
    if saved and session.rank == 0:
        checkpoints.set_aside_newer(saved[0])
        origin.note_inexact(saved[0], session, number_format, folder, log)
        take_effect(folder)
    if options.compile:
        for network in networks:
            network.compile()

    # Open the data.
    mine = split_batch(config.batch_size, session.rank, session.world, options.accumulate)
    data = open_data(run, recipe)
    session.wait_for_others()
    first_step = state.step
    validation = Validation(data.validation, recipe, session, dtype, options.perceptual, data.validation.least_side)
    log.tags({"sisr.validation_protocol": validation.protocol})
    warnings = Warnings(folder, log, config.steps)
    batches = Batches(data.store, recipe.crop, config.batch_size, options.seed)
    # On a CPU a thread would only take time, and Python's lock, from the threads that train.
    depth = 0 if device.type == "cpu" else 2
    prefetcher = Prefetcher(batches, mine.first, sum(mine.counts), first_step, device, depth=depth)
    facts = {"baseline": validation.baseline, "protocol": validation.protocol}
    progress = Progress(folder, session, config.steps, config.batch_size, first_step, prefetcher, facts)
    scalars: dict[str, Tensor] = {}

    def evaluate(done: int, healthy: bool = True) -> None:
        """Validate, show and report the averaged generator; call it the best only where a checkpoint will keep it."""
        found = validation(ema.network)
        values = {f"val/{name}": value for name, value in found.metrics.items()}
        guard.check_validation(done, values, scalars)
        means = mean_over_workers(scalars, session)
        health = found.health | of_step(means, updates.norms, roles, stepped_networks(parts))
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

    def save(done: int, last: bool) -> None:
        """Write a checkpoint from the first worker; all of them take part."""
        state.step = done
        captured = state.capture(session)
        if session.rank == 0:
            meta = model_meta(run, done, progress.validation_at(done), validation.protocol)
            wrote = checkpoints.save(
                done,
                captured,
                lambda path: save_model(path, ema.network, meta),
                {"world": session.world, "threads": torch.get_num_threads(), "precision": number_format}
                | {"versions": versions(), **origin.origin(run)},
                last=last,
            )
            with _disk_errors_reported(folder):
                if wrote and state.best:
                    atomic.write_json(folder.best, state.best)
                checkpoints.prune(state.best.get("step"))
                log.flush()
            session.saved(done)

    try:
        if state.step == 0 and session.rank == 0:
            log.metrics(0, {f"val/bicubic_{name}": value for name, value in validation.baseline.items()})
        if state.step == 0 or state.step >= config.steps:  # before the first step; or killed before publishing
            evaluate(state.step)
        if saved and state.step < config.steps and agree(session.request(state.step), session) is Request.STOP:
            return progress.ended("stopped", state.step)
        for step in range(first_step, config.steps):
            # Take the step.
            taken = prefetcher.next().split(mine.counts)
            for micro, (part, pixels) in enumerate(zip(mine.micro, taken, strict=True)):
                draws = Draws(options.seed, step, part.first, part.count, device)
                hr = to_hr(pixels, recipe.crop, draws, dtype, options.channels_last)
                lr = recipe.degrade(hr, draws)
                updates.begin(micro, part.weight)
                with autocast(number_format, device):
                    scalars = recipe.train_step(lr, hr, draws, step, updates)
                require_scalars(scalars, f"recipe {run.recipe}")
            scalars = weighted(scalars, mine.scalar_weight)
            done = step + 1
            guard.check(step, updates.skipped, scalars)
            ema.update(recipe.generator, done * config.batch_size, config.batch_size)
            if saved and step == first_step and session.rank == 0:
                origin.warn_of_jump(saved, state.learning_rates(), run, folder)

            # Log.
            if done % options.log_every == 0 or done == config.steps:
                log.metrics(done, progress.logged(done, mean_over_workers(scalars, session), updates.norms))

            # Evaluate and save.
            last = done == config.steps
            due = done % options.evaluate_every == 0 or last
            if due:
                evaluate(done, guard.is_healthy())
            folder.confirm()
            request = agree(session.request(done), session)
            if (due or request is not Request.CONTINUE) and (
                guard.is_healthy() or (last and _is_usable(state, done, folder))
            ):
                save(done, last)
            if request is Request.STOP and not last:
                return progress.ended("stopped", done)
    except DivergedError as error:
        kept = checkpoints.folders()
        message = f"{error}. " + (f"{kept[0].name} is the last checkpoint" if kept else "There is no checkpoint yet")
        progress.ended("diverged", progress.step, message)
        raise DivergedError(message) from error
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(memory_advice(run, recipe.crop.side, max(mine.counts), device)) from error
    finally:
        prefetcher.close()

    # Publish the averaged generator.
    if session.rank == 0:
        folder.confirm()
        meta = model_meta(run, state.step, progress.validation_at(state.step), validation.protocol)
        with atomic.folder(folder.model) as unfinished:
            save_model(unfinished, ema.network, meta)
    return progress.ended("finished", state.step)


def model_meta(run: Run, step: int, metrics: dict[str, float], protocol: str) -> dict[str, Any]:
    """Return what `sisr.models` keeps beside the weights."""
    scale = run.recipe_config().scale
    facts = {"run": run.name, "step": step, "metrics": metrics, "data": run.data, "fingerprint": run.fingerprint}
    facts |= {"metrics_protocol": protocol} | ({"recipe_source": run.recipe_source} if run.recipe_source else {})
    return {"recipe": run.recipe, "config": run.config, "scale": scale, **facts, "versions": versions()}


def _is_usable(state: TrainingState, done: int, folder: RunFolder) -> bool:
    """Return whether a run may end with a step whose gradient was not finite: it left all weights finite.

    Raises:
        DivergedError: It did not.
    """
    if not state.is_finite():
        raise DivergedError(f"diverged by step {done}: a network holds values that are not finite")
    folder.warn(f"the last step, {done}, was not a good one: the model is what the steps before have made of it")
    return True


@contextmanager
def _disk_errors_reported(folder: RunFolder) -> Iterator[None]:
    """Let training go on when something beside a checkpoint can't be written."""
    try:
        yield
    except OSError as error:
        folder.warn(f"training goes on, but {error}")
