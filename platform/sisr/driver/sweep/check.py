"""What all trials of a sweep will ask of the machine and the images, at every corner of its space."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from sisr.driver.run.order import buildable
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
from sisr.training.run import Run


def opened_data(plan: Plan, space: SearchSpace) -> TrainingData:
    """Return the images of a sweep, which every trial can use.

    Raises:
        ConfigError: Some trial's recipe can't be built, or no trial would measure what is searched for.
        DataError: The images can't be used, or not with the crop of some trial.
    """
    run, recipe = _at_first_corner(plan, space)
    data = open_data(run, recipe, show=True)
    _check_measured(plan, run.options.perceptual, data.validation.least_side)
    whole = [name for name, domain in space.domains.items() if _is_whole(domain)]
    for other, varied in _varied(plan, space, whole):
        if varied.crop != recipe.crop:
            _check_measured(plan, run.options.perceptual, open_data(other, varied).validation.least_side)
    return data


def check_batches(plan: Plan, space: SearchSpace, workers: int) -> None:
    """Make sure that every trial's batch can be divided among its workers.

    Raises:
        ConfigError: One can't.
    """
    run = _first_run(plan, space)
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
    expected = _shapes(recipe)
    numbers = [name for name, domain in space.domains.items() if domain.is_moved]
    return frozenset(
        name for name in numbers if any(_shapes(varied) != expected for _, varied in _varied(plan, space, [name]))
    )


def _check_measured(plan: Plan, choice: str, least_side: int) -> None:
    """Raise ConfigError where trials would not measure what they are compared by."""
    offered = perceptual.offered(choice, least_side)
    metrics = [*ALWAYS, *([perceptual.metric_of(offered[0]), SCORE] if offered else [])]
    measured = {f"val/{metric.name}": 0.0 for metric in metrics}
    for metric in (*plan.objective, plan.rank_metric[0]):
        if value_of(measured, metric) is None:
            raise ConfigError(
                f"no trial would measure {metric}: perceptual={choice} gives {', '.join(measured)}; "
                "choose another --objective, or another --option perceptual=lpips, vgg or swd"
            )


def _first_run(plan: Plan, space: SearchSpace, **changes: Any) -> Run:
    """Return the run at the first corner of all domains, but for some changes."""
    return trial_run(plan, Trial(0, {n: d.corners()[0] for n, d in space.domains.items()} | changes, {}))


def _at_first_corner(plan: Plan, space: SearchSpace) -> tuple[Run, Recipe]:
    run = _first_run(plan, space)
    return run, buildable(run, plan.recipe)


def _varied(plan: Plan, space: SearchSpace, names: Iterable[str]) -> Iterator[tuple[Run, Recipe]]:
    """Yield what each other corner of some settings makes of the recipe, one setting at a time."""
    for name in names:
        for value in space.domains[name].corners()[1:]:
            run = _first_run(plan, space, **{name: value})
            yield run, buildable(run, plan.recipe)


def _is_whole(domain: Domain) -> bool:
    """Return whether a domain gives whole numbers, or lists: crops consist of them."""
    return (isinstance(domain, Number) and domain.whole) or (
        isinstance(domain, Choice) and any(type(value) in (int, list) for value in domain.values)
    )


def _shapes(recipe: Recipe) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shape of every tensor of every network."""
    return {
        name: {key: tuple(tensor.shape) for key, tensor in part.state_dict().items()}
        for name, part in parts_of(recipe).items()
        if isinstance(part, nn.Module)
    }
