"""A trial of a sweep as the run that it is."""

from sisr import recipes
from sisr.config.settings import build
from sisr.sweep.plan import Plan
from sisr.sweep.state import Trial
from sisr.training.run import Options, Run


def trial_run(plan: Plan, trial: Trial) -> Run:
    """Return the run that a trial is, with the settings that hold now."""
    config = {**plan.fixed, **trial.params, "steps": plan.steps}
    module = recipes.load(plan.recipe, plan.recipe_source)
    return Run(
        name=f"{plan.name or plan.recipe}-{trial.name}",
        recipe=plan.recipe,
        recipe_source=plan.recipe_source,
        config=build(module.Config, config, source=f"trial {trial.name}").model_dump(mode="json"),
        options=build(Options, plan.options, source="--option"),
        data=plan.data,
        validation=plan.validation,
        fingerprint=plan.fingerprint,
    )
