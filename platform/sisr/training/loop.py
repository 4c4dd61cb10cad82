"""The training loop: one function, read from top to bottom, unchanged in a plain process, in Ray Train and in Tune."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sisr.data.augment import to_hr, to_lr
from sisr.data.batches import Batches, Prefetcher
from sisr.data.draws import Draws
from sisr.disk import atomic
from sisr.disk.run_folder import RunFolder
from sisr.errors import DivergedError, OutOfMemoryError
from sisr.models.files import save_model
from sisr.recipe import parts_of, roles_of, stepped_networks
from sisr.training import origin
from sisr.training.activations import recompute_blocks
from sisr.training.batch_split import split_batch
from sisr.training.checkpoint import Checkpoints
from sisr.training.compiling import speed_up
from sisr.training.contract import require_scalars
from sisr.training.dataset import open_data
from sisr.training.device import autocast, describe, is_out_of_memory, memory_advice, resolve, set_up_process
from sisr.training.eager import import_compiler_beside
from sisr.training.ema import Ema
from sisr.training.evaluator import Evaluator, facts_of, open_validations
from sisr.training.guard import Guard
from sisr.training.health import Warnings
from sisr.training.progress import Progress
from sisr.training.run import Run, take_effect, versions
from sisr.training.session import Log, Request, Session, Votes, mean_over_workers, weighted
from sisr.training.state import TrainingState, assert_same_start, seed_everything
from sisr.training.update import Updates


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
    set_up_process(device, options.threads, options.deterministic)
    import_compiler_beside()
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
    else:
        origin.start_from(run, folder, recipe, ema.network)
    assert_same_start(state.step, session)
    if saved and session.rank == 0:
        checkpoints.set_aside_newer(saved[0])
        origin.note_inexact(saved[0], session, number_format, folder, log)
        take_effect(folder)
    if options.checkpoint_activations:
        recompute_blocks(recipe.generator)
    begin_pass = speed_up(networks, device, options, folder.warn if session.rank == 0 else lambda _: None)

    # Open the data.
    mine = split_batch(config.batch_size, session.rank, session.world, options.accumulate)
    data = open_data(run, recipe)
    session.wait_for_others()
    first_step = state.step
    validations = open_validations(data, recipe, session, dtype, options)
    measured = facts_of(validations)
    log.tags({"sisr.validation_protocol": measured["protocol"]})
    if data.sets:
        log.tags({"sisr.set_protocols": measured["set_protocols"]})
    batches = Batches(data.store, recipe.crop, config.batch_size, options.seed, data.scale)
    # On a CPU a thread would only take time, and Python's lock, from the threads that train.
    depth = 0 if device.type == "cpu" else 2
    prefetcher = Prefetcher(batches, mine.first, sum(mine.counts), first_step, device, depth=depth)
    facts = {**measured, "where": describe(device, number_format)}
    progress = Progress(folder, session, config.steps, config.batch_size, first_step, prefetcher, facts)
    votes = Votes(session)
    evaluate = Evaluator(
        validations=validations,
        state=state,
        updates=updates,
        roles=roles,
        stepped=stepped_networks(parts),
        guard=guard,
        warnings=Warnings(folder, log, config.steps),
        progress=progress,
        session=session,
        folder=folder,
        log=log,
        sample_rows=options.sample_rows,
    )
    scalars: dict[str, Tensor] = {}

    def save(done: int, last: bool, wait: bool) -> None:
        """Copy the state, which a thread of the first worker writes; all of them take part."""
        state.step = done
        captured = state.capture(session)
        if session.rank == 0:
            folder.confirm()
            meta = model_meta(run, done, progress.validation_at(done), measured)

            def after(wrote: bool) -> None:
                folder.confirm()
                if wrote and captured["best"]:
                    atomic.write_json(folder.best, captured["best"])
                checkpoints.prune(captured["best"].get("step"))
                log.flush()

            checkpoints.begin(
                done,
                captured,
                lambda path: save_model(path, captured["ema"], meta),
                origin.origin(run, session, number_format),
                last=last,
                after=after,
            )
            if wait:
                checkpoints.finish()
                session.saved(done)

    try:
        if state.step == 0 and session.rank == 0:
            log.tags({"sisr.bicubic": measured["baseline"]})  # one value each: no curve
        if state.step == 0 or state.step >= config.steps:  # before the first step; or killed before publishing
            evaluate(ema.network, state.step, scalars)
        if saved and state.step < config.steps and votes.agree(state.step) is Request.STOP:
            return progress.ended("stopped", state.step)
        is_spent = options.patience is not None and state.unimproved >= options.patience  # killed before publishing
        for step in range(first_step, first_step if is_spent else config.steps):
            # Take the step.
            taken = prefetcher.next().split(mine.counts)
            for micro, (part, windows) in enumerate(zip(mine.micro, taken, strict=True)):
                draws = Draws(options.seed, step, part.first, part.count, device, state.draws)
                hr = to_hr(windows.hr, recipe.crop, draws, dtype, options.channels_last)
                lr = recipe.degrade(hr, draws) if windows.lr is None else to_lr(windows.lr, recipe.crop, draws, dtype)
                updates.begin(micro, part.weight)
                begin_pass()
                with autocast(number_format, device):
                    scalars = recipe.train_step(lr, hr, draws, step, updates)
                require_scalars(scalars, f"recipe {run.recipe}")
            scalars = weighted(scalars, mine.scalar_weight)
            done = step + 1
            guard.check(step, updates.bad, scalars)
            ema.update(recipe.generator, done * config.batch_size, config.batch_size)
            if saved and step == first_step and session.rank == 0:
                origin.warn_of_jump(saved, state.learning_rates(), run, folder)
            progress.stepped(done)

            # Log.
            if done % options.log_every == 0 or done == config.steps:
                log.metrics(done, progress.logged(done, mean_over_workers(scalars, session), updates.norms))

            # Evaluate and save.
            last = done == config.steps
            due = done % options.evaluate_every == 0 or last
            if due:
                evaluate(ema.network, done, scalars, guard.is_healthy())
                last = last or (options.patience is not None and state.unimproved >= options.patience)
            folder.confirm()
            checkpoints.look()
            request = votes.agree(done)
            if (due or request is not Request.CONTINUE) and (
                guard.is_healthy() or (last and _is_usable(state, done, folder))
            ):
                save(done, last, wait=last or request is not Request.CONTINUE)
            if last:
                break
            if request is Request.STOP:
                checkpoints.finish()
                return progress.ended("stopped", done)
    except DivergedError as error:
        checkpoints.close()
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
        checkpoints.close()

    # Publish the averaged generator.
    if session.rank == 0:
        folder.confirm()
        meta = model_meta(run, state.step, progress.validation_at(state.step), measured)
        with atomic.folder(folder.model) as unfinished:
            save_model(unfinished, ema.network, meta)
    return progress.finished(state.step, state.unimproved)


def model_meta(run: Run, step: int, metrics: dict[str, float], measured: dict[str, Any]) -> dict[str, Any]:
    """Return what `sisr.models` keeps beside the weights; `measured`: see `evaluator.facts_of`."""
    facts = {"run": run.name, "step": step, "metrics": metrics, "data": run.data, "fingerprint": run.fingerprint}
    known = {"recipe_source": run.recipe_source, "init": run.init, "set_protocols": measured.get("set_protocols")}
    facts |= {"metrics_protocol": measured["protocol"], **{name: value for name, value in known.items() if value}}
    facts |= {"scale": run.recipe_config().scale, "versions": versions()}
    return {"recipe": run.recipe, "config": run.config, **facts}


def _is_usable(state: TrainingState, done: int, folder: RunFolder) -> bool:
    """Return whether a run may end with a step whose gradient was not finite: it left all weights finite.

    Raises:
        DivergedError: It did not.
    """
    if not state.is_finite():
        raise DivergedError(f"diverged by step {done}: a network holds values that are not finite")
    folder.warn(f"the last step, {done}, was not a good one: the model is what the steps before have made of it")
    return True
