"""What a run goes on from: another model's weights, or a checkpoint, whose manifest says of which run it is."""

import hashlib
import json
from collections.abc import Set
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sisr.disk.run_folder import RunFolder
from sisr.errors import CheckpointError, ConfigError
from sisr.models.files import CONFIG
from sisr.recipe import Recipe, parts_of, roles_of
from sisr.training.checkpoint import Checkpoints
from sisr.training.checkpoint_files import manifest_of
from sisr.training.run import FREE_CONFIG, FREE_OPTIONS, Run, versions
from sisr.training.session import Log, Session

JUMP = 1.1  # times, from one step to the next


def weights_digest(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of the file that `write_weights` makes of a network's weights."""
    return hashlib.sha256(_content(state)).hexdigest()


def write_weights(path: Path, state: dict[str, Tensor]) -> None:
    """Put a network's first weights where the workers find them."""
    path.write_bytes(_content(state))


def start_from(run: Run, folder: RunFolder, recipe: Recipe, average: nn.Module) -> None:
    """Load a run's first weights, where it was given some, into the generator, its average and the judge.

    Raises:
        CheckpointError: They are missing here, or are not those that the run was started with.
    """
    if run.init:
        state = _first(folder.init, run.init_sha256, f"--init {run.init}")
        for network in (recipe.generator, average):
            network.load_state_dict(state, strict=not run.init_partly)
    if run.init_judge:
        judge_of(recipe)[1].load_state_dict(
            _first(folder.init_judge, run.init_judge_sha256, f"--init-judge {run.init_judge}")
        )


def judge_of(recipe: Recipe) -> tuple[str, nn.Module]:
    """Return name and network of a recipe's judge; raise ConfigError if it has none, or several."""
    judges = [judge.network for judge in roles_of(recipe).judges]
    if len(judges) != 1:
        raise ConfigError(f"--init-judge needs a recipe with one judge; as configured it has {len(judges) or 'none'}")
    return judges[0], cast(nn.Module, parts_of(recipe)[judges[0]])


def _first(path: Path, digest: str, option: str) -> dict[str, Tensor]:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"{path}, the weights of {option}, can't be read: {error.strerror}; all workers must share --runs"
        ) from error
    if found != digest:
        raise CheckpointError(f"{path} was changed since the run was started from {option}; remove the run")
    return load_file(path)


def _content(state: dict[str, Tensor]) -> bytes:
    floats = {name: value.float() if value.is_floating_point() else value for name, value in sorted(state.items())}
    return save({name: value.detach().cpu().contiguous() for name, value in floats.items()})


def origin(run: Run, session: Session, number_format: str) -> dict[str, Any]:
    """Return what a manifest says about the run that wrote it, and about where it was executed."""
    about = {"config_hash": run.config_hash, "fingerprint": run.fingerprint, "versions": versions()}
    return {**about, "options": run.options.model_dump(mode="json"), **_execution(session, number_format)}


def _execution(session: Session, number_format: str) -> dict[str, Any]:
    return {"world": session.world, "threads": torch.get_num_threads(), "precision": number_format}


def differences(checkpoints: Checkpoints, run: Run) -> list[str]:
    """Return in words how the newest readable checkpoint's run differs from `run`; nothing where there is none.

    What one of the two does not know, because another version wrote it, is no difference.
    """
    for folder in checkpoints.folders():
        try:
            manifest = manifest_of(folder)
        except CheckpointError:
            continue
        if manifest.get("config_hash") == run.config_hash:
            return []
        model = _model_config(folder)
        found = _changed({"recipe": model.get("recipe", run.recipe)}, {"recipe": run.recipe})
        found += _changed(model.get("config", {}), run.config, FREE_CONFIG)
        found += _changed(manifest.get("options", {}), run.options.model_dump(mode="json"), FREE_OPTIONS)
        if manifest.get("fingerprint", run.fingerprint) != run.fingerprint:
            found.append("other images")
        return found
    return []


def note_inexact(restored: Path, session: Session, number_format: str, folder: RunFolder, log: Log) -> None:
    """Warn when a resumed run can't be byte for byte what it would have been undisturbed."""
    before = manifest_of(restored)
    if found := _changed(before, _execution(session, number_format)):
        folder.warn(f"not bit-exact from step {before['step']} on: {', '.join(found)}")
        log.tags({"sisr.not_bit_exact": f"from step {before['step']}: {', '.join(found)}"})


def warn_of_jump(saved: tuple[Path, dict[str, Any]], now: dict[str, float], run: Run, folder: RunFolder) -> None:
    """Warn where a learning rate jumps because the run was given another length, on which its schedule depends.

    `saved` is the checkpoint that was restored, folder and state; `now` the rates in the step after it, by optimizer.
    """
    before, steps = _model_config(saved[0]).get("config", {}).get("steps"), run.config["steps"]
    if before in (None, steps):
        return
    for name, rate in now.items():
        earlier = float(saved[1]["parts"][name]["param_groups"][0]["lr"])
        if not earlier / JUMP <= rate <= earlier * JUMP:
            folder.warn(
                f"the learning rate of {name} jumps from {earlier:.3g} to {rate:.3g}: its schedule was made for "
                f"{before:,} steps and is now stretched over {steps:,}"
            )


def _changed(before: dict[str, Any], after: dict[str, Any], free: Set[str] = frozenset()) -> list[str]:
    """Return in words which values differ that both have, apart from those that are `free` to."""
    return [
        f"{name} {before[name]} -> {after[name]}"
        for name in sorted((before.keys() & after.keys()) - free)
        if before[name] != after[name]
    ]


def _model_config(folder: Path) -> dict[str, Any]:
    """Return what lies beside a checkpoint's weights; an empty dict where it can't be read."""
    try:
        return dict(json.loads((folder / CONFIG).read_text()))
    except (OSError, ValueError, TypeError):
        return {}
