"""What a run goes on from: another model's weights, or a checkpoint, whose manifest says of which run it is."""

import hashlib
import json
from collections.abc import Set
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sisr.disk.run_folder import RunFolder
from sisr.errors import CheckpointError
from sisr.models import weights
from sisr.models.files import CONFIG
from sisr.training.checkpoint import Checkpoints, manifest_of
from sisr.training.run import FREE_CONFIG, FREE_OPTIONS, Run
from sisr.training.session import Log, Session

JUMP = 1.1  # times, from one step to the next


def weights_digest(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of the file that `write_weights` makes of a generator's weights."""
    return hashlib.sha256(_content(state)).hexdigest()


def write_weights(path: Path, state: dict[str, Tensor]) -> None:
    """Put a generator's first weights where the workers find them."""
    path.write_bytes(_content(state))


def start_from(path: Path, run: Run, *networks: nn.Module) -> None:
    """Load a run's first weights into networks that are made like its generator.

    Raises:
        CheckpointError: They are missing here, or are not those that the run was started with.
    """
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"{path}, the weights of --init {run.init}, can't be read: {error.strerror}; all workers must share --runs"
        ) from error
    if found != run.init_sha256:
        raise CheckpointError(f"{path} was changed since the run was started from --init {run.init}; remove the run")
    state = weights.read(path)
    for network in networks:
        network.load_state_dict(state)


def _content(state: dict[str, Tensor]) -> bytes:
    floats = {name: value.float() if value.is_floating_point() else value for name, value in sorted(state.items())}
    return save({name: value.detach().cpu().contiguous() for name, value in floats.items()})


def origin(run: Run) -> dict[str, Any]:
    """Return what a manifest says about the run that wrote it."""
    options = run.options.model_dump(mode="json")
    return {"config_hash": run.config_hash, "fingerprint": run.fingerprint, "options": options}


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
    now = {"world": session.world, "threads": torch.get_num_threads(), "precision": number_format}
    if found := _changed(before, now):
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
