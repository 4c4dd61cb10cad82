"""What `--init` names, as weights that fit a run's generator."""

from pathlib import Path

from torch import Tensor, nn

from sisr import models, weights
from sisr.errors import CheckpointError, ConfigError


def resolve(spec: str, runs: Path, generator: nn.Module) -> dict[str, Tensor]:
    """Return the weights that `spec` names; none of the code that may lie beside them is executed.

    Args:
        spec: A run's name or folder, a checkpoint or model folder, a weights file, or an MLflow address.
        runs: The folder that holds all runs.
        generator: What they must fit; may be on the meta device.

    Raises:
        CheckpointError: There are none, or they can't be read.
        ConfigError: They don't fit; the message names the first mismatch.
    """
    try:
        path = _path(spec, runs)
    except CheckpointError as error:
        raise CheckpointError(f"--init: {error}") from error
    state = weights.read(path / models.WEIGHTS if path.is_dir() else path)
    if problem := weights.misfit(state, generator.state_dict()):
        raise ConfigError(f"--init {spec} does not fit this recipe's generator as configured: {problem}")
    return state


def _path(spec: str, runs: Path) -> Path:
    if spec.startswith(("models:/", "runs:/")):
        from sisr.tracking.registry import download_model

        return download_model(spec, runs=runs)
    return models.find(spec, runs)
