"""Which of the models that were measured the gate would let into the registry, before anything asks it. No MLflow."""

from collections.abc import Sequence
from typing import Any, Literal, get_origin

from sisr import recipes
from sisr.evaluation.compare import BICUBIC, Measures, best
from sisr.evaluation.difference import BETTER, difference
from sisr.evaluation.gate import metric_of
from sisr.evaluation.measure import Measurement
from sisr.models.model import Model
from sisr.recipe import build_recipe, roles_of

REGISTERED = "models:/"


def is_adversarial(meta: dict[str, Any]) -> bool:
    """Return whether the recipe of a model, with the choices among its settings, has a judge."""
    module = recipes.load(meta["recipe"], meta.get("recipe_source", ""))
    tiny, settings = module.tiny(), meta.get("config", {})
    choices = [name for name, field in type(tiny).model_fields.items() if get_origin(field.annotation) is Literal]
    chosen = {name: settings[name] for name in choices if name in settings}
    return bool(roles_of(build_recipe(module, tiny.model_copy(update=chosen))).judges)


def best_candidate(models: Sequence[Model], measured: Sequence[Measurement], by: Measures) -> str:
    """Return the best of the models that are better than bicubic by the metric that decides for each, beyond noise.

    Args:
        models: Of ours, and others, which are passed over, as are registered ones.
        measured: What they reached on the same images, and perhaps others.
        by: What they were judged by.

    Returns:
        Its name; empty where there is none, or bicubic was not measured.
    """
    values = {found.model: found for found in measured}
    if BICUBIC not in values:
        return ""
    ours = [each for each in models if each.meta.get("recipe") and not each.name.startswith(REGISTERED)]
    better = [values[each.name] for each in ours if _is_better(each, values[each.name], values[BICUBIC], by)]
    return best(better, by) if better else ""


def _is_better(model: Model, ours: Measurement, bicubic: Measurement, by: Measures) -> bool:
    metric = metric_of(None, adversarial=is_adversarial(model.meta), rule=by.rule, distance=by.distance)
    found = difference(ours, bicubic, metric)
    return found is not None and found.word == BETTER
