"""What a sweep found, in sentences."""

from collections.abc import Mapping
from typing import Any

from sisr import recipes
from sisr.errors import ConfigError
from sisr.metrics.catalogue import PIXELS, PSNR_Y
from sisr.sweep.plan import Plan, value_of
from sisr.sweep.report import numbers
from sisr.sweep.space.space import defaults
from sisr.sweep.state import Sweep, Trial


def sentences(sweep: Sweep, baseline: Mapping[str, float]) -> list[str]:
    """Return who won, by how much against trial 0 and against bicubic, and what to bear in mind.

    Args:
        sweep: A sweep, finished or not.
        baseline: Bicubic's values by metric, where they are known.
    """
    best = sweep.best()
    if best is None:
        return ["No trial has been evaluated yet."]
    stands = "won" if sweep.state == "finished" else "leads"
    found = [f"Trial {best.number} {stands} at step {best.evaluated_at:,}: {_values(sweep, best)}."]
    if best.number:
        found += _against_first(sweep, best)
    elif len(sweep.ranking()) > 1:
        found.append(f"No other trial beats trial 0{_published(sweep)}.")
    found += _against_bicubic(best, baseline)
    if best.exploits:
        found.append(f"It copied better trials {len(best.exploits)} times; its settings are those it ended with.")
    return found


def _values(sweep: Sweep, trial: Trial) -> str:
    metrics = dict.fromkeys((*sweep.plan.objective, f"val/{PSNR_Y.name}"))
    found = ((metric, value_of(trial.values, metric)) for metric in metrics)
    return ", ".join(f"{numbers.metric_name(m)} {numbers.with_unit(m, v)}" for m, v in found if v is not None)


def _against_first(sweep: Sweep, best: Trial) -> list[str]:
    """Return by how much the best trial beats trial 0, at the last step that both were evaluated at."""
    first = sweep.trials[0]
    steps = {step for step, _ in first.curve} & {step for step, _ in best.curve}
    if not steps:
        return []
    step = max(steps)
    parts = []
    for metric in sweep.plan.objective:
        one, other = value_of(best.values_at(step), metric), value_of(first.values_at(step), metric)
        if one is not None and other is not None:
            parts.append(f"{numbers.metric_name(metric)} {numbers.with_unit(metric, one - other, signed=True)}")
    where = f"at step {step:,}" + ("" if step == best.evaluated_at else ", the last that both reached")
    return [f"Against trial 0{_published(sweep)}: {', '.join(parts)} {where}."] if parts else []


def _published(sweep: Sweep) -> str:
    first = sweep.trials[0].first_params
    return ", the recipe's own settings" if first == _defaults(sweep.plan, first) else ""


def _defaults(plan: Plan, names: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a recipe publishes for some settings, or None where it is not one of ours, or has other ones now."""
    if plan.recipe_source:
        return None
    try:
        return defaults(recipes.load(plan.recipe).Config, names)
    except (ConfigError, ImportError, KeyError):
        return None


def _against_bicubic(best: Trial, baseline: Mapping[str, float]) -> list[str]:
    names = (f"val/{metric.name}" for metric in PIXELS)
    known = [name for name in names if name in baseline and name in best.values]
    parts = (
        f"{numbers.metric_name(m)} {numbers.with_unit(m, best.values[m] - baseline[m], signed=True)}"
        f" (bicubic: {numbers.with_unit(m, baseline[m])})"
        for m in known
    )
    return [f"Against bicubic: {', '.join(parts)}."] if known else []
