"""What all trials of a sweep will ask of the machine and the images, at every corner of its space."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.driver.run.first_weights import FirstWeights, facts_of, place
from sisr.driver.run.order import buildable, without_fetching
from sisr.driver.sweep.host import trial_run
from sisr.errors import ConfigError
from sisr.metrics import perceptual
from sisr.metrics.catalogue import ALWAYS, SCORE, value_of
from sisr.recipe import Recipe, parts_of
from sisr.sweep.plan import Plan
from sisr.sweep.space.domains import Choice, Domain, Number
from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import Trial
from sisr.training.batch_split import check_equal
from sisr.training.dataset import TrainingData, open_data
from sisr.training.estimate import without_download
from sisr.training.origin import judge_of
from sisr.training.run import Options, Run


def opened_data(plan: Plan, space: SearchSpace) -> TrainingData:
    """Return the images of a sweep, which every trial can use.

    Raises:
        ConfigError: Some trial's recipe can't be built, or no trial would measure what is searched for.
        DataError: The images can't be used, or not with the crop of some trial.
    """
    run, recipe = _at_first_corner(plan, space)
    data = open_data(run, recipe, show=True)
    _check_measured(plan, run.options, data)
    whole = [name for name, domain in space.domains.items() if _is_whole(domain)]
    for other, varied in _varied(plan, space, whole):
        if varied.crop != recipe.crop:
            _check_measured(plan, run.options, open_data(other, varied))
    return data


def first_weights(plan: Plan, space: SearchSpace, runs: Path) -> dict[str, Any]:
    """Return what a plan records of its trials' first weights.

    Raises:
        ConfigError: They don't fit all trials.
    """
    first, (_, recipe) = _first(plan), _at_first_corner(plan, space)
    facts = facts_of(first, recipe, runs, None)
    for name in space.domains:
        if any(
            _begun_shapes(first, varied) != _begun_shapes(first, recipe) for _, varied in _varied(plan, space, [name])
        ):
            raise ConfigError(
                f"{name} decides the shape of a network that begins with given weights: it can't be searched; "
                f"--set {name}=VALUE fixes it"
            )
    return {name: value for name, value in facts.items() if name.endswith("_sha256")}


def dispensable(plan: Plan, space: SearchSpace) -> tuple[str, ...]:
    """Return which of the settings that make trials cheap a full run may do without: the first weights fit without."""
    first = _first(plan)
    expected = _begun_shapes(first, _at_first_corner(plan, space)[1])
    fields = recipes.load(plan.recipe, plan.recipe_source).Config.model_fields
    own = {name: plan.full.get(name, fields[name].default) for name in plan.cheap}
    runs = {name: first_run(plan, space, **{name: value}) for name, value in own.items()}
    built = {name: without_fetching(run, plan.recipe) for name, run in runs.items()}
    return tuple(name for name, varied in built.items() if _begun_shapes(first, varied) == expected)


def place_first_weights(plan: Plan, space: SearchSpace, folder: RunFolder, runs: Path) -> None:
    """Put the trials' first weights into the sweep's folder."""
    first = _first(plan)
    if folder.init.exists():
        first = replace(first, generator=None)
    if folder.init_judge.exists():
        first = replace(first, judge=None)
    if first.generator or first.judge:
        place(first, *_at_first_corner(plan, space), folder, runs)


def check_batches(plan: Plan, space: SearchSpace, workers: int) -> None:
    """Make sure that every trial's batch can be divided among its workers.

    Raises:
        ConfigError: One can't.
    """
    run = first_run(plan, space)
    domain = space.domains.get("batch_size")
    sizes = [run.config["batch_size"]] if domain is None else domain.corners()
    if isinstance(domain, Number):
        sizes.append(domain.low + (domain.q or 1))  # where this one and the least can be divided, all can
    for size in sizes:
        check_equal(size, workers, run.options.accumulate)


def deciding_shapes(plan: Plan, space: SearchSpace) -> frozenset[str]:
    """Return which swept numbers decide the shape of a network: a copy of one must keep them.

    What is no number is kept by every copy anyway.
    """
    _, recipe = _at_first_corner(plan, space)
    expected = _network_shapes(recipe)
    numbers = [name for name, domain in space.domains.items() if domain.is_moved]
    return frozenset(
        name
        for name in numbers
        if any(_network_shapes(varied) != expected for _, varied in _varied(plan, space, [name]))
    )


def _check_measured(plan: Plan, options: Options, data: TrainingData) -> None:
    """Raise ConfigError where trials would not measure what they are compared by."""
    images = {"": data.validation} | {f"{name}/": found.images for name, found in data.sets.items()}
    choice, measured, missing = options.perceptual, dict[str, float](), list[str]()
    for prefix, held in images.items():
        offered = perceptual.offered(choice, held.least_side)
        further, lines = perceptual.further(options.metrics, held.least_side)
        metrics = [*ALWAYS, *([perceptual.metric_of(offered[0]), SCORE] if offered else [])]
        measured |= {f"val/{prefix}{name}": 0.0 for name in [*(metric.name for metric in metrics), *further]}
        missing += lines
    for metric in (*plan.objective, plan.rank_metric[0]):
        if value_of(measured, metric) is None:
            gives = f"perceptual={choice} gives {', '.join(measured)}"
            raise ConfigError(
                f"no trial would measure {metric}: {'; '.join([*dict.fromkeys(missing), gives])}; "
                "choose another --objective, or another --option perceptual=lpips, vgg or swd"
            )


def fetch_weights(plan: Plan, space: SearchSpace) -> None:
    """Let this process download the weights of losses that are missing, instead of every trial's."""
    run = first_run(plan, space)
    config = run.recipe_config()
    if without_download(config) is not config:
        buildable(run, plan.recipe)


def first_run(plan: Plan, space: SearchSpace, **changes: Any) -> Run:
    """Return the run at the first point of the space, but for some changes."""
    return trial_run(plan, Trial(0, space.settled(space.first() | changes), {}))


def _at_first_corner(plan: Plan, space: SearchSpace) -> tuple[Run, Recipe]:
    run = first_run(plan, space)
    return run, without_fetching(run, plan.recipe)


def _varied(plan: Plan, space: SearchSpace, names: Iterable[str]) -> Iterator[tuple[Run, Recipe]]:
    """Yield what each other corner of some settings makes of the recipe, one setting at a time."""
    for name in names:
        for value in space.domains[name].corners()[1:]:
            if not space.allows(space.settled(space.first() | {name: value})):
                continue
            run = first_run(plan, space, **{name: value})
            yield run, without_fetching(run, plan.recipe)


def _is_whole(domain: Domain) -> bool:
    """Return whether a domain gives whole numbers, or lists: crops consist of them."""
    return (isinstance(domain, Number) and domain.whole) or (
        isinstance(domain, Choice) and any(type(value) in (int, list) for value in domain.values)
    )


def _first(plan: Plan) -> FirstWeights:
    return FirstWeights(generator=plan.init, partly=plan.init_partly, judge=plan.init_judge)


def _begun_shapes(first: FirstWeights, recipe: Recipe) -> list[dict[str, tuple[int, ...]]]:
    """Return the shape of every tensor of the networks that begin with given weights."""
    networks = [recipe.generator] if first.generator else []
    return [_shapes(network) for network in (*networks, *([judge_of(recipe)[1]] if first.judge else []))]


def _network_shapes(recipe: Recipe) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shape of every tensor of every network."""
    return {name: _shapes(part) for name, part in parts_of(recipe).items() if isinstance(part, nn.Module)}


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
