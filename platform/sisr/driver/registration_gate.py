"""The gate in front of the registry: a candidate, bicubic and the present champion, measured on the same images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from sisr.driver.models import open_model, side_by_side
from sisr.driver.promising import is_adversarial
from sisr.errors import CheckpointError, ConfigError
from sisr.evaluation import gate, images
from sisr.evaluation.compare import BICUBIC, Measures, measure
from sisr.evaluation.gate import Check
from sisr.evaluation.measure import Measurement, with_scores
from sisr.evaluation.ranking import forgiven
from sisr.metrics.catalogue import FEWEST, FURTHER, SCORE
from sisr.models.model import Model
from sisr.terminal.console import note
from sisr.tracking import selection
from sisr.tracking.candidate import Candidate


@dataclass(frozen=True)
class Decision:
    """What the gate decided, and on what grounds."""

    checks: list[Check]
    measured: list[Measurement]  # the candidate's first

    @property
    def passed(self) -> bool:
        """Whether the candidate passed every check."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True)
class Rules:
    """How models are compared."""

    data: str
    measures: Measures
    by: str | None  # the metric that decides; None: the recipe's own
    device: str
    recipes: Sequence[str] = ()  # whose code may run


class Gate:
    """Measures each model once, however often it has to decide."""

    def __init__(self, found: Candidate, rules: Rules, runs: Path) -> None:
        """Open the candidate and find the images.

        Raises:
            ConfigError: The metric that is to decide is not measured.
            DataError: The images can't be used.
            CheckpointError: The candidate's files can't be used.
        """
        self._found, self.rules, self._runs = found, rules, runs
        model = open_model(str(found.files), runs, None, rules.device, rules.recipes)
        self.model = replace(model, name=found.name)
        adversarial = rules.by is None and is_adversarial(model.meta)
        by = rules.measures
        self.by = gate.metric_of(
            rules.by,
            adversarial=adversarial,
            rule=by.rule,
            distance=by.distance,
            further=by.further,
            missing=by.missing,
        )
        folder = selection.folder_of(found.run, runs)
        self._learned = images.of_folder(folder) if folder else images.learned(found.record, found.image_hashes())
        self.files, self.data = images.find_unseen(rules.data, [self._learned])
        self._champions: dict[str, Measurement | Check] = {}

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return images.hashes(self.files)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the images' names and contents."""
        return images.fingerprint(self.files, self._hashes)

    def decide(self, version: str | None, files_of: Callable[[str], Path]) -> Decision:
        """Judge the candidate against bicubic and the champion.

        Args:
            version: The champion's; None: there is none yet.
            files_of: Returns a folder with the files of a version, or raises CheckpointError.

        Raises:
            ConfigError: The images are too small for the metric that is to decide.
        """
        against = "bicubic" if version is None else f"bicubic and the champion, version {version}"
        note(f"the gate compares {self._found.name} with {against}, on {len(self.files)} images of {self.data}")
        if len(self.files) < FEWEST and self.data != self.rules.data:
            note(
                f"warning: {self.data} are too few to decide: from the others of {self.rules.data} it has learned. "
                "Name a folder that it has not seen with --data"
            )
        rivals, checks = [self._bicubic], [gate.reported(selection.reported(self._found.run)), self._unseen]
        if version is not None:
            if version not in self._champions:
                self._champions[version] = self._try(f"champion (version {version})", lambda: files_of(version))
            champion = self._champions[version]
            if isinstance(champion, Check):
                checks.append(champion)
            else:
                rivals.append(champion)
        measured = [self._candidate, *rivals]
        if self.by in FURTHER and self.by.name not in self._candidate.further:
            raise ConfigError(f"--by {self.by.name} needs images of {self.by.least} px a side, and some are smaller")
        if self.rules.measures.distance:
            measured = with_scores(measured, self._bicubic)
        for line in forgiven([measured[0], measured[1]]) if self.by == SCORE else ():
            note(f"warning: {line}")
        return Decision([*checks, *gate.judge(measured[0], measured[1:], self.by)], measured)

    @cached_property
    def _unseen(self) -> Check:
        """Whether the candidate was trained on none of the images."""
        known, origins = self._learned.sha256s, images.cut_from(self.files)
        seen = None if known is None else images.among(self._hashes, origins, known)
        return gate.unseen(seen, len(self.files), len(set(origins.values())))

    @cached_property
    def _candidate(self) -> Measurement:
        return self._measure(self.model)

    @cached_property
    def _bicubic(self) -> Measurement:
        return self._measure(open_model(BICUBIC, self._runs, self.model.scale, self.rules.device))

    def _try(self, name: str, files: Callable[[], Path]) -> Measurement | Check:
        """Measure a champion, or return why it can't be."""
        try:
            model = open_model(str(files()), self._runs, self.model.scale, self.rules.device, self.rules.recipes)
        except (CheckpointError, ConfigError) as error:
            return Check(name, False, f"can't be compared with: {error}")
        return self._measure(replace(model, name=name))

    def _measure(self, model: Model) -> Measurement:
        at_once = side_by_side([model], self.files)
        return measure([model], self.files, self.rules.measures, at_once=at_once)[0][0]
