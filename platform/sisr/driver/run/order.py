"""What somebody asked to train, checked and turned into a run before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sisr import recipes
from sisr.config.settings import build
from sisr.data.sources.catalogue import absolute, check_source
from sisr.data.sources.judging import check_sets
from sisr.disk.run_folder import RunFolder, check_name
from sisr.driver.run.first_weights import FirstWeights, adopted, facts_of, first_of, place
from sisr.driver.run.workers import Workers, check_batch, exactly
from sisr.errors import ConfigError
from sisr.metrics import perceptual
from sisr.models import trust
from sisr.recipe import Recipe
from sisr.recipes.outside import Source
from sisr.storage import ownership
from sisr.terminal.console import note
from sisr.training import contract
from sisr.training.dataset import TrainingData, open_data, refuse_mixed
from sisr.training.estimate import without_download
from sisr.training.run import Options, Run, explain_recipe_errors


@dataclass(frozen=True, kw_only=True)
class Order:
    """What somebody asked to train."""

    recipe: str | Source  # a name of ours, a recipe file's path or a dotted module; or what was found there
    values: dict[str, Any] = field(default_factory=dict)  # of the recipe's Config, not yet checked
    options: Options = field(default_factory=Options)
    data: str = "demo"
    validation: str | None = None
    validation_sets: Mapping[str, str] = field(default_factory=dict)  # further ones, by name
    name: str | None = None  # None: made from the recipe and a hash of everything that makes another run
    runs: Path = Path("runs")
    workers: Workers = field(default_factory=lambda: exactly(1))
    allow_changes: bool = False
    first: FirstWeights = field(default_factory=FirstWeights)  # what the networks start with
    source: str = "--set"  # where `values` were written, for messages


def prepare(order: Order, *, fetch: bool = True) -> tuple[Run, RunFolder, TrainingData]:
    """Check an order, pack its images, and return the run, its folder and its data.

    Weights of losses are asked for after the images, and fetched where they are missing, unless `fetch` is false.

    Raises:
        ConfigError: The recipe, a setting or the name can't be used.
        DataError: The images can't be used.
    """
    source = _recipe(order.recipe, order.runs) if isinstance(order.recipe, str) else order.recipe
    if order.name is not None:
        ownership.refresh(order.runs / check_name(order.name))
    module = recipes.load(source.name, source.text, source.where)
    if source.text:
        trust.remember(source.name, source.text, source.where)
    values, first = order.values, order.first
    if model := adopted(module, values, order.runs, order.name):
        values, first = {**values, **model.settings}, first_of(model, first)
    config = build(
        module.Config, values, source=order.source, elsewhere=dict.fromkeys(Options.model_fields, "--option")
    )
    check_source(order.data, order.validation)  # an error names the source as it was written
    check_sets(order.validation_sets)
    check_batch(config.batch_size, order.workers, order.options.accumulate)
    run = Run(
        name=order.name or source.name,
        recipe=source.name,
        recipe_source=source.text,
        config=config.model_dump(mode="json"),
        options=order.options,
        data=absolute(order.data),
        validation=None if order.validation is None else absolute(order.validation),
        validation_sets={name: absolute(spec) for name, spec in order.validation_sets.items()},
    )
    recipe = without_fetching(run, source.where)
    run = run.model_copy(update=facts_of(first, recipe, order.runs, order.name))
    data = open_data(run, recipe, show=True)
    for name, images in {"": data.validation, **{name: found.images for name, found in data.sets.items()}}.items():
        perceptual.offered(run.options.perceptual, images.least_side)
        for line in perceptual.further(run.options.metrics, images.least_side)[1]:
            note(f"warning: {f'validation set {name}: ' if name else ''}{line}")
    if fetch and without_download(config) is not config:
        buildable(run, source.where)
    run = run.model_copy(update=data.fingerprints)
    if order.name is None:
        run = run.model_copy(update={"name": f"{source.name}-{run.config_hash}"})
    folder = RunFolder(ownership.refresh(order.runs / run.name))
    refuse_mixed(data, begun=folder.run.is_file())
    return run, folder, data


def _recipe(name: str, runs: Path) -> recipes.Source:
    try:
        return recipes.find(name)
    except ConfigError:
        if not RunFolder(runs / name).run.is_file():
            raise
    raise ConfigError(f"{name} is a run, not a recipe: `sisr train --from {name} --name {name}` goes on with it")


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
            recipe = run.build_recipe()  # some networks compute with numbers while they are built
            contract.require(recipe, where)
    return recipe


def without_fetching(run: Run, where: str) -> Recipe:
    """Return what `buildable` returns, with random weights in losses whose own would have to be downloaded."""
    config = run.recipe_config()
    light = without_download(config)
    changed = run if light is config else run.model_copy(update={"config": light.model_dump(mode="json")})
    return buildable(changed, where)


def place_init(order: Order, run: Run, folder: RunFolder) -> None:
    """Put a run's first weights into its folder, where all workers find them, and say what was taken.

    Raises:
        CheckpointError: They are no longer what they were when the run was prepared.
    """
    if run.init or run.init_judge:
        first = FirstWeights(generator=run.init, partly=run.init_partly, judge=run.init_judge)
        place(first, run, buildable(run, run.recipe), folder, order.runs)
