"""What happens at each evaluation of a run: the averaged generator is validated, judged, shown and reported."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sisr.disk.run_folder import RunFolder
from sisr.metrics.perceptual import Distance
from sisr.recipe import Recipe, Roles
from sisr.training.dataset import TrainingData
from sisr.training.guard import Guard
from sisr.training.health import Warnings, best_metric, of_step
from sisr.training.options import Options
from sisr.training.progress import Progress
from sisr.training.session import Log, Session, mean_over_workers
from sisr.training.state import TrainingState
from sisr.training.update import Updates
from sisr.training.validate import KEPT_BYTES, Validation, save_picture


def open_validations(
    data: TrainingData, recipe: Recipe, session: Session, dtype: torch.dtype, options: Options
) -> dict[str, Validation]:
    """Return a run's own validation, and one of each further set, by what stands before the names of its metrics.

    That is nothing for the run's own, which comes first, and `NAME/` for the others. They share memory and networks.

    Raises:
        ConfigError: The distance that was asked for can't be had.
    """
    opened = {"": data.validation} | {f"{name}/": found.images for name, found in data.sets.items()}
    built: dict[str, Distance] = {}
    return {
        prefix: Validation(
            images,
            recipe,
            session,
            dtype,
            options.perceptual,
            images.least_side,
            images.lr if images.store.paired else None,
            options.metrics,
            KEPT_BYTES // len(opened),
            built,
        )
        for prefix, images in opened.items()
    }


def facts_of(validations: Mapping[str, Validation]) -> dict[str, Any]:
    """Return bicubic's values by the names of their metrics, and the protocols, of further sets by their names."""
    baseline = {f"{prefix}{name}": v for prefix, each in validations.items() for name, v in each.baseline.items()}
    own, *others = validations
    protocols = {prefix.removesuffix("/"): validations[prefix].protocol for prefix in others}
    facts: dict[str, Any] = {"baseline": baseline, "protocol": validations[own].protocol}
    return facts | ({"set_protocols": protocols} if protocols else {})


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """All that an evaluation needs of a run and its worker; called by all workers at the same steps."""

    validations: Mapping[str, Validation]  # by what stands before their metrics: "", the run's own, first
    state: TrainingState
    updates: Updates
    roles: Roles
    stepped: dict[str, str]  # the network that each optimizer steps, both by name
    guard: Guard
    warnings: Warnings
    progress: Progress
    session: Session
    folder: RunFolder
    log: Log
    sample_rows: int

    def __call__(self, generator: nn.Module, done: int, scalars: dict[str, Tensor], healthy: bool = True) -> None:
        """Validate, show and report the averaged generator; call it the best only where a checkpoint will keep it.

        Args:
            generator: The averaged one.
            done: Steps done.
            scalars: What the last step logged on this worker; empty before the first.
            healthy: Whether nothing is wrong with that step, so that a checkpoint will be written.

        Raises:
            DivergedError: A value is not a number.
        """
        own, *others = self.validations
        found = self.validations[own](generator)
        values = {f"val/{name}": value for name, value in found.metrics.items()}
        self.guard.check_validation(done, values, scalars)
        for prefix in others:
            measured = self.validations[prefix](generator).metrics
            values |= {f"val/{prefix}{name}": value for name, value in measured.items()}
        means = mean_over_workers(scalars, self.session)
        health = found.health | of_step(means, self.updates.norms, self.roles, self.stepped)
        self.state.judge(done, best_metric(self.roles, values), values, kept=bool(done) and healthy)
        if self.session.rank == 0:
            self.log.metrics(done, values | {f"health/{name}": value for name, value in health.items()})
            self.warnings.look(done, values, health, self.validations[own].baseline)
            self.folder.confirm()  # a picture would make a folder that was moved anew
            with self.folder.errors_reported():
                for prefix, validation in self.validations.items():
                    picture = self.folder.samples / "val" / prefix / f"step_{done:09d}.png"
                    save_picture(validation.grid(generator, self.sample_rows), picture)
                    self.log.image(done, f"val/{prefix}samples", str(picture.relative_to(self.folder.path)))
        self.progress.validated(done, values, self.state.best)
        self.session.report(done, values)
