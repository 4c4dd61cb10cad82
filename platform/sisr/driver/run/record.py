"""What the driver writes about a run: its record before step 0, and its outbox's first and last lines."""

from contextlib import suppress
from typing import Any

from sisr.data.index import changes as changed_files
from sisr.disk.code_revision import code_revision
from sisr.disk.run_folder import RECORD, RunFolder
from sisr.errors import CheckpointError, ConfigError, DataError
from sisr.terminal.console import note
from sisr.tracking.outbox import ENDED, FINAL, Outbox, Status
from sisr.training import origin
from sisr.training import run as runs
from sisr.training.checkpoint import Checkpoints
from sisr.training.checkpoint_files import manifest_of
from sisr.training.dataset import TrainingData
from sisr.training.run import FREE_CONFIG, FREE_OPTIONS, Run, versions
from sisr.training.validation_sets import changed_sets, of_no_set

FILES_LIMIT = 2**20  # bytes; a hash for each of 200,000 images takes 15 MB, and MLflow would keep them for every run
MLFLOW_STATUS: dict[str, Status] = {"finished": "FINISHED", "stopped": "KILLED"}


def take_up(run: Run, folder: RunFolder, data: TrainingData, allow_changes: bool) -> bool:
    """Record a new run, or make sure that an old one may go on; return whether it goes on.

    What changes of an old one is recorded when a worker has restored its checkpoint.

    Raises:
        ConfigError: A run of this name exists with other settings.
        DataError: A run of this name exists with the same settings, and its images have changed.
    """
    folder.next_run.unlink(missing_ok=True)  # of an attempt that could restore no checkpoint with it
    previous = runs.read(folder)
    if (found := origin.differences(Checkpoints(folder.checkpoints), previous or run)) and not allow_changes:
        raise ConfigError(
            f"{folder.checkpoints} holds checkpoints of another run: {'; '.join(found)}. Choose another --name, remove "
            f"{folder.path}, or give --allow-changes to go on from them"
        )
    if previous is None or not any(folder.checkpoints.glob("step_*")):  # nothing learned yet: nothing to mix up
        runs.record(folder, run, {"data": data.facts, "held_out": data.held_out}, data.hashes)
        return any(folder.checkpoints.glob("step_*"))  # where only the record was lost
    changes = _setting_changes(previous, run)
    wrong = ConfigError if changes else DataError
    before = folder.file_hashes()
    if previous.fingerprint != run.fingerprint:
        found_images = changed_files(of_no_set(before), of_no_set(data.hashes))
        moved = f"images {previous.data} -> {run.data} ({found_images})"
        changes.append(f"images of {run.data}: {found_images}" if previous.data == run.data else moved)
    fingerprints = previous.validation_fingerprints, run.validation_fingerprints
    changes += changed_sets(*fingerprints, before, data.hashes)
    listed = "; ".join(changes)
    if changes and is_finished(previous, folder) and run.config["steps"] <= previous.config["steps"]:
        raise ConfigError(f"run {run.name} is finished, and differs: {listed}. Choose another --name")
    if changes and not allow_changes:
        raise wrong(
            f"run {run.name} exists and differs: {listed}. Choose another --name, or give --allow-changes "
            "to go on from its last checkpoint with the new ones"
        )
    step = max(int(path.name.removeprefix("step_")) for path in folder.checkpoints.glob("step_*"))
    if previous != run and not is_finished(run, folder) and run.config["steps"] >= step:
        if (length := previous.config["steps"]) != run.config["steps"]:
            note(f"steps {length:,} -> {run.config['steps']:,}: schedules go by the new length")
        changed = [*runs.history(folder), *(f"step {step}: {change}" for change in changes)]
        facts = {"data": data.facts, "held_out": data.held_out, "changed": changed}
        runs.record_next(folder, run, facts, data.hashes)
    return True


def is_finished(run: Run, folder: RunFolder) -> bool:
    """Return whether the folder holds the end of this run, model included: all steps done, or its patience gone."""
    status = folder.status()
    no_patience = run.options.patience is not None and status.get("unimproved", 0) >= run.options.patience
    done = no_patience or status.get("step", 0) >= run.config["steps"]
    return status.get("state") == "finished" and done and folder.model.is_dir()


def _setting_changes(old: Run, new: Run) -> list[str]:
    """Return in words which settings differ that shape the result."""
    if old.recipe != new.recipe:
        return [f"recipe {old.recipe} -> {new.recipe}"]
    found = ["recipe file changed"] if old.recipe_source != new.recipe_source else []
    firsts = {"init": (old.init_sha256, new.init_sha256), "init_judge": (old.init_judge_sha256, new.init_judge_sha256)}
    for name, (then, now) in firsts.items():
        if then != now:
            spec, other = getattr(old, name), getattr(new, name)
            found.append(f"{name} {spec or 'none'} -> {other or 'none'}{' (other weights)' if spec == other else ''}")
    options = old.options.model_dump(), new.options.model_dump(), FREE_OPTIONS
    for before, after, free in ((old.config, new.config, FREE_CONFIG), options):
        for name in sorted(before.keys() | after.keys()):
            if name not in free and before.get(name) != after.get(name):
                found.append(f"{name} {before.get(name)} -> {after.get(name)}")
    return found


def announce(run: Run, folder: RunFolder, facts: dict[str, Any], resumed: bool) -> None:
    """Put what identifies the run into its outbox, before step 0."""
    described = {"recipe": run.recipe, "data": run.data, **run.config}
    described |= {f"run.{name}": value for name, value in run.options.model_dump().items()}
    described |= {f"validation.{name}": spec for name, spec in run.validation_sets.items()}
    code = code_revision()
    tags = {
        "sisr.recipe": run.recipe,
        **({"sisr.init": run.init, "sisr.init_sha256": run.init_sha256} if run.init else {}),
        **({"sisr.init_judge": run.init_judge} if run.init_judge else {}),
        "sisr.config_hash": run.config_hash,
        "sisr.data_fingerprint": run.fingerprint,
        "sisr.data": facts,
        "sisr.folder": str(folder.path.resolve()),
        "sisr.code": code["digest"],
        **{f"version.{name}": version for name, version in versions().items()},
    }
    if "revision" in code:
        tags |= {"mlflow.source.git.commit": code["revision"], "sisr.code_changed": code["changed"]}
    with Outbox(folder.path) as outbox:
        outbox.params(described)
        outbox.tags(tags)
        outbox.status("RUNNING")
        outbox.artifact(RECORD)
        add_hashes(outbox, folder)
        if run.recipe_source:
            outbox.artifact("recipe.py")
    if resumed:
        note(f"run {run.name} goes on from its last checkpoint")


def add_hashes(outbox: Outbox, folder: RunFolder) -> None:
    """Put the hashes of a run's or sweep's image files into its outbox; those of a trial are its sweep's."""
    if not folder.file_hashes():
        return
    if (folder.path / "files.json").stat().st_size < FILES_LIMIT:
        outbox.artifact("files.json")
    else:
        outbox.tags({"sisr.files": "files.json is 1 MiB or more: it stays in the run's folder"})


def close(run: Run, folder: RunFolder, status: dict[str, Any]) -> None:
    """Put what became of the run into its outbox."""
    with Outbox(folder.path) as outbox:
        outbox.artifact(RECORD)  # as it was recorded after its checkpoint was restored
        if last := status.get("validation"):
            outbox.tags({FINAL: {name.removeprefix("val/"): last[name] for name in last}})
        outbox.tags({"sisr.state": status["state"], "sisr.checkpoints": _checkpoint_references(folder)})
        outbox.tags({ENDED: f"{status['state']} at step {int(status.get('step', 0)):,}"})
        if status["state"] == "finished":
            outbox.artifact("model", "generator")
            outbox.model("model")
        outbox.status(MLFLOW_STATUS.get(status["state"], "FAILED"))


def _checkpoint_references(folder: RunFolder) -> dict[str, str]:
    """Return where each kept checkpoint lies, with the digest of the state it holds."""
    found = {}
    for path in folder.checkpoints.glob("step_*"):
        with suppress(CheckpointError, KeyError):
            found[str(path.resolve())] = manifest_of(path)["digest"]
    return found
