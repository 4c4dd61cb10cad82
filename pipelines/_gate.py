"""The gate in front of the registry: a candidate, bicubic and the present champion, measured on the same images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sisr.pipelines import _measuring, _models

from sisr.errors import CheckpointError, ConfigError, DataError
from sisr.evaluation import gate

if TYPE_CHECKING:
    from sisr.data.reading import ImageFile
    from sisr.evaluation.measure import Report
    from sisr.metrics.protocol import Protocol
    from sisr.models.model import Model
    from sisr.tracking.candidate import Candidate


@dataclass(frozen=True)
class Verdict:
    """What the gate found."""

    tests: list[gate.Test]
    reports: "list[Report]"  # the candidate's first

    @property
    def passed(self) -> bool:
        """Whether the candidate passed every test."""
        return all(test.passed for test in self.tests)

    @property
    def failures(self) -> str:
        """The failed tests in words."""
        return "; ".join(f"{test.name}: {test.finding}" for test in self.tests if not test.passed)


@dataclass(frozen=True)
class Rules:
    """How models are compared."""

    data: str
    rule: "Protocol"
    by: str
    device: str
    recipes: Sequence[str] = ()  # whose code may run


class Gate:
    """Measures each model once, however often it has to decide."""

    def __init__(self, found: "Candidate", rules: Rules, runs: Path) -> None:
        """Open the candidate and find the images.

        Raises:
            DataError: The images can't be used, or the candidate was trained on all of them.
            CheckpointError: The candidate's files can't be used.
        """
        self._found, self.rules, self._runs = found, rules, runs
        model = _models.open_model(str(found.files), runs, None, rules.device, rules.recipes)
        self.model = replace(model, name=found.name)
        self.files, self.data = _images(rules.data, found.record.get("run", {}))
        self._champions: dict[str, Report | gate.Test] = {}

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the images' names and contents."""
        from hashlib import sha256

        from sisr.data.reading import digest

        hashes = [(file.name, sha256(file.path.read_bytes()).hexdigest()) for file in self.files]
        return digest(part for pair in hashes for part in pair)

    def decide(self, version: str | None, files_of: Callable[[str], Path]) -> Verdict:
        """Judge the candidate against bicubic and the champion.

        Args:
            version: The champion's; None: there is none yet.
            files_of: Returns a folder with the files of a version, or raises CheckpointError.
        """
        rivals, tests = [self._bicubic], [gate.reported(self._found.run.data.metrics)]
        if version is not None:
            if version not in self._champions:
                self._champions[version] = self._try(f"champion (version {version})", lambda: files_of(version))
            outcome = self._champions[version]
            if isinstance(outcome, gate.Test):
                tests.append(outcome)
            else:
                rivals.append(outcome)
        tests += gate.judge(self._candidate, rivals, self.rules.by)
        return Verdict(tests, [self._candidate, *rivals])

    @cached_property
    def _candidate(self) -> "Report":
        return self._measure(self.model)

    @cached_property
    def _bicubic(self) -> "Report":
        return self._measure(_models.open_model("bicubic", self._runs, self.model.scale, self.rules.device))

    def _try(self, name: str, files: Callable[[], Path]) -> "Report | gate.Test":
        """Measure a champion, or say why it can't be."""
        try:
            rules = self.rules
            model = _models.open_model(str(files()), self._runs, self.model.scale, rules.device, rules.recipes)
        except (CheckpointError, ConfigError) as error:
            return gate.Test(name, False, f"can't be compared with: {error}")
        return self._measure(replace(model, name=name))

    def _measure(self, model: "Model") -> "Report":
        return _measuring.measure([model], self.files, self.rules.rule)[0]


def _images(data: str, run: dict[str, Any]) -> "tuple[list[ImageFile], str]":
    """Return the images that `data` names, and what to call them; of a run's own folder, only what it held out."""
    from sisr.data.sources.catalogue import absolute, open_source

    if not Path(data).is_dir() or absolute(data) != run.get("data"):
        return _measuring.find(data), data
    if run.get("validation"):
        raise DataError(f"--data {data}: the run was trained on these images; name others, such as {run['validation']}")
    return open_source(data).held_out, f"{data} (held-out images)"
