"""What a sweep found, in sentences."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sisr import recipes
from sisr.errors import ConfigError
from sisr.metrics.catalogue import PIXELS, PSNR_Y, name_in, value_of
from sisr.metrics.catalogue import metric as catalogued
from sisr.sweep.report import numbers
from sisr.sweep.space.space import defaults
from sisr.sweep.state import Sweep, Trial


def sentences(sweep: Sweep, baseline: Mapping[str, float]) -> list[str]:
    """Return who won, by how much against trial 0 and against bicubic, and what to bear in mind.

    `baseline` has bicubic's values by metric, where they are known.
    """
    best = sweep.best()
    if best is None:
        return ["No trial has been evaluated yet."]
    shown = dict.fromkeys((*sweep.plan.objective, f"val/{PSNR_Y.name}"))
    stands = "won" if sweep.state == "finished" else "leads"
    found = [f"Trial {best.number} {stands} at step {best.evaluated_at:,}: {numbers.listed(shown, best.values)}."]
    if best.number:
        found += _against_first(sweep, best)
    elif len(sweep.ranking()) > 1:
        found.append(f"No other trial beats trial 0{_published(sweep)}.")
    pixels = [f"val/{metric.name}" for metric in PIXELS]
    if parts := list(_differences(pixels, best.values, baseline, "bicubic")):
        found.append(f"Against bicubic: {', '.join(parts)}.")
    if best.exploits:
        found.append(f"It copied better trials {len(best.exploits)} times; its settings are those it ended with.")
    return found


def _against_first(sweep: Sweep, best: Trial) -> list[str]:
    """Return by how much the best trial beats trial 0, at the last step that both were evaluated at."""
    first = sweep.trials[0]
    steps = {step for step, _ in first.curve} & {step for step, _ in best.curve}
    if not steps:
        return []
    step = max(steps)
    parts = list(_differences(sweep.plan.objective, best.values_at(step), first.values_at(step)))
    where = f"at step {step:,}" + ("" if step == best.evaluated_at else ", the last that both reached")
    return [f"Against trial 0{_published(sweep)}: {', '.join(parts)} {where}."] if parts else []


def _published(sweep: Sweep) -> str:
    """Return what is said of trial 0 where it has what a recipe of ours publishes; that may have other settings now."""
    plan, first = sweep.plan, sweep.trials[0].first_params
    try:
        same = not plan.recipe_source and first == defaults(recipes.load(plan.recipe).Config, first)
    except (ConfigError, ImportError, KeyError):
        same = False
    return ", the recipe's own settings" if same else ""


def _differences(
    metrics: Iterable[str], ours: Mapping[str, Any], theirs: Mapping[str, Any], name: str = ""
) -> Iterator[str]:
    """Yield the difference in each metric that both have, with the other's value where it has a name."""
    for metric in metrics:
        one, other = value_of(ours, metric), value_of(theirs, metric)
        if one is not None and other is not None:
            beside = f" ({name}: {catalogued(metric).text(other)})" if name else ""
            yield numbers.named(name_in(ours, metric), one - other, signed=True) + beside
