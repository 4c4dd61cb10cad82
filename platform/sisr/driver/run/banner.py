"""What a person is told when a run or a sweep begins."""

from pathlib import Path
from typing import Any

from torch import nn

from sisr.driver import next_steps
from sisr.driver.run.order import buildable
from sisr.recipe import Recipe, parameter_count, parts_of, roles_of
from sisr.sweep.plan import Plan
from sisr.sweep.space.space import SearchSpace
from sisr.terminal.console import note
from sisr.tracking import address
from sisr.tracking.address import Address
from sisr.tracking.redact import redact_text
from sisr.training.run import Run


def of_run(run: Run, facts: dict[str, Any], place: Address, runs: Path) -> None:
    """Say which run begins: recipe and size, length, images, and where MLflow shows it."""
    recipe = buildable(run, run.recipe)
    parts = parts_of(recipe)
    judges = [judge.network for judge in roles_of(recipe).judges]
    networks = {name: part for name, part in parts.items() if name in judges and isinstance(part, nn.Module)}
    sizes = [f"{n} {parameter_count(network):,}" for n, network in {"generator": recipe.generator, **networks}.items()]
    size = run.config["batch_size"]
    examples = f"{size} example{'s' if size > 1 else ''} of {recipe.crop.side} px"
    note(f"run {run.name}: recipe {run.recipe}, {run.config['steps']:,} steps of {examples}")
    note(f"parameters: {', '.join(sizes)}")
    note(_images(facts))
    note(_mlflow(place, runs))
    note(unlearned(recipe, run.config["steps"], "this run"))


def shorter(run: Run) -> str:
    """Return how a run that takes too long is made shorter, as the end of a sentence."""
    page = f"`sisr recipes {run.recipe}` lists all settings"
    if "cpu" in getattr(run.recipe_module().Config, "presets", {}):
        return f"; --preset cpu is a small version; {page}"
    return f"; a smaller network, hr_crop and batch_size are faster: {page}"


def of_sweep(plan: Plan, trial: Run, space: SearchSpace, facts: dict[str, Any], place: Address, runs: Path) -> None:
    """Say which sweep begins: recipe, trials such as `trial`, what is searched, images, and where MLflow shows it."""
    how = f"{plan.search} search, scheduler {plan.scheduler}"
    note(f"sweep {plan.name}: recipe {plan.recipe}, {plan.trials} trials of up to {plan.steps:,} steps, {how}")
    note(f"searched: {', '.join(sorted(space.domains))}; by {', '.join(plan.objective)}")
    note(_images(facts))
    note(_mlflow(place, runs))
    first = min([*plan.scheduler_options.get("rungs", ()), plan.steps])
    note(unlearned(buildable(trial, plan.recipe), first, "a trial before it is first compared"))
    for name, domain in space.domains.items():
        most = max((value for value in domain.corners() if isinstance(value, int)), default=0)
        if name.endswith("_steps") and most > plan.steps:
            note(f"warning: {name} is searched up to {most:,}, and a trial has {plan.steps:,} steps: longer trials "
                 f"(--steps), or --space '{name}=...' with other values")  # fmt: skip


def unlearned(recipe: Recipe, steps: int, what: str) -> str:
    """Return a warning where a generator would not have learned anything after so many steps; else nothing."""
    alone = roles_of(recipe).judges_alone
    if steps > alone:
        return ""
    return (
        f"warning: in the first {alone:,} steps only the judge learns, and {what} has {steps:,}: its generator stays "
        "as it was; take more steps, or fewer for the judge alone (finetune: judge_warmup_steps)"
    )


def _images(facts: dict[str, Any]) -> str:
    small = f", {facts['too_small']:,} too small" if facts.get("too_small") else ""
    return f"images of {facts['source']}: {facts['train']:,} trained on, {facts['held_out']:,} held out{small}"


def _mlflow(place: Address, runs: Path) -> str:
    if place.tracking_uri != address.default_uri(runs):
        return f"MLflow: experiment {place.experiment} at {redact_text(place.tracking_uri)}"
    page = next_steps.command("ui", runs=runs)
    return f"MLflow: experiment {place.experiment} in {runs / address.DATABASE}; `{page}` shows it"
