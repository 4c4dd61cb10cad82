"""What somebody asked to train, checked and turned into a run before anything starts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sisr import recipes
from sisr.config.settings import build
from sisr.data.sources.catalogue import absolute, check_source
from sisr.disk.run_folder import RunFolder
from sisr.driver.models import locate
from sisr.driver.run.workers import Workers, check_batch, exactly
from sisr.errors import CheckpointError, ConfigError
from sisr.metrics import perceptual
from sisr.models import trust, weights
from sisr.models.files import WEIGHTS
from sisr.recipe import Recipe
from sisr.training import contract, origin
from sisr.training.dataset import TrainingData, open_data
from sisr.training.run import Options, Run, check_name, explain_recipe_errors, read


@dataclass(frozen=True, kw_only=True)
class Order:
    """What somebody asked to train."""

    recipe: str  # a name of ours, a recipe file's path or a dotted module
    values: dict[str, Any] = field(default_factory=dict)  # of the recipe's Config, not yet checked
    options: Options = field(default_factory=Options)
    data: str = "demo"
    validation: str | None = None
    name: str | None = None  # None: made from the recipe and a hash of everything that makes another run
    runs: Path = Path("runs")
    workers: Workers = field(default_factory=lambda: exactly(1))
    allow_changes: bool = False
    init: str | None = None  # whose weights the generator starts with; None: random ones
    source: str = "--set"  # where `values` were written, for messages


def prepare(order: Order) -> tuple[Run, RunFolder, TrainingData]:
    """Check an order, pack its images, and return the run, its folder and its data.

    Raises:
        ConfigError: The recipe, a setting or the name can't be used.
        DataError: The images can't be used.
    """
    source = recipes.find(order.recipe)
    if order.name is not None:
        check_name(order.name)
    module = recipes.load(source.name, source.text, source.where)
    if source.text:
        trust.remember(source.name, source.text, source.where)
    config = build(module.Config, order.values, source=order.source)
    check_source(order.data, order.validation)  # an error names the source as it was written
    check_batch(config.batch_size, order.workers, order.options.accumulate)
    run = Run(
        name=order.name or source.name,
        recipe=source.name,
        recipe_source=source.text,
        config=config.model_dump(mode="json"),
        options=order.options,
        data=absolute(order.data),
        validation=None if order.validation is None else absolute(order.validation),
    )
    recipe = buildable(run, source.where)
    run = run.model_copy(update=_init(order, recipe.generator))
    data = open_data(run, recipe, show=True)
    perceptual.offered(run.options.perceptual, data.validation.least_side)
    run = run.model_copy(update={"fingerprint": data.fingerprint})
    if order.name is None:
        run = run.model_copy(update={"name": f"{source.name}-{run.config_hash}"})
    return run, RunFolder(order.runs / run.name), data


def buildable(run: Run, where: str) -> Recipe:
    """Return the recipe, built before anything starts; without memory for its tensors where its networks allow that.

    Raises:
        ConfigError: A recipe from outside can't be built, or lacks what the loop and inference need.
    """
    with explain_recipe_errors(run):
        try:
            with torch.device("meta"):
                recipe = run.build_recipe()
                contract.require(recipe, where)
        except (NotImplementedError, RuntimeError):
            if not run.recipe_source:
                raise
            recipe = run.build_recipe()  # some networks compute with numbers while they are built
            contract.require(recipe, where)
    return recipe


def _init(order: Order, generator: nn.Module) -> dict[str, str]:
    """Return what a run records of its first weights.

    A run that has a name and has learned something does not ask for them again: they may be gone.
    """
    if order.init is None:
        return {}
    folder = RunFolder(order.runs / order.name) if order.name else None
    previous = read(folder) if folder and any(folder.checkpoints.glob("step_*")) else None
    if previous and previous.init == order.init:
        return {"init": previous.init, "init_sha256": previous.init_sha256}
    state = resolve(order.init, order.runs)
    if problem := weights.misfit(state, generator.state_dict()):
        raise ConfigError(f"--init {order.init} does not fit the generator of this recipe as configured: {problem}")
    return {"init": order.init, "init_sha256": origin.weights_digest(state)}


def place_init(order: Order, run: Run, folder: RunFolder) -> None:
    """Put a run's first weights into its folder, where all workers find them.

    Raises:
        CheckpointError: They are no longer what they were when the run was prepared.
    """
    if order.init is None:
        return
    state = resolve(order.init, order.runs)
    if origin.weights_digest(state) != run.init_sha256:
        raise CheckpointError(f"--init {order.init} has changed while the run was prepared: start it again")
    origin.write_weights(folder.init, state)


def resolve(spec: str, runs: Path) -> dict[str, Tensor]:
    """Return the weights that `--init` names; none of the code that may lie beside them is executed.

    A `spec` is a run's name or folder, a checkpoint or model folder, a weights file, or an MLflow address.

    Raises:
        CheckpointError: There are none, or they can't be read.
    """
    try:
        path = locate(spec, runs)
        return weights.read(path / WEIGHTS if path.is_dir() else path)
    except CheckpointError as error:
        raise CheckpointError(f"--init {spec}: {error}") from error
