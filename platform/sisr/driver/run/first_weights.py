"""What a run's networks start with: another model's weights, its architecture too, and another run's judge."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sisr.disk.run_folder import RunFolder
from sisr.driver.models import locate
from sisr.errors import CheckpointError, ConfigError
from sisr.models import weights, zoo
from sisr.models.files import WEIGHTS
from sisr.recipe import Recipe, RecipeModule
from sisr.storage import ownership
from sisr.terminal.console import note
from sisr.training import origin
from sisr.training.checkpoint import Checkpoints
from sisr.training.checkpoint_files import STATE, load_state
from sisr.training.run import Run, read

NETWORK = "network"  # the setting of a recipe that adopts, which may name a model
LISTED = 8  # groups of tensors in a message


@dataclass(frozen=True, kw_only=True)
class FirstWeights:
    """Where somebody wants a run's first weights from; `resolve` and `resolve_judge` say what places there are."""

    generator: str | None = None  # None: random ones
    partly: bool = False  # those that fit
    judge: str | None = None


RANDOM = FirstWeights()


@dataclass(frozen=True)
class Adopted:
    """A model whose network a recipe trains."""

    settings: dict[str, Any]  # with which the recipe builds it
    spec: str  # whose weights it has


def adopted(module: RecipeModule, values: Mapping[str, Any], runs: Path, name: str | None = None) -> Adopted | None:
    """Return what a recipe's setting `network` adopts; None where it names an architecture, or the recipe adopts none.

    A run called `name` that has learned something does not ask for the model again: it may be gone.

    Raises:
        ConfigError: Another setting contradicts the model's, or spandrel is missing.
        CheckpointError: There is no such model, or nobody knows its network.
    """
    adopt, spec = getattr(module, "adopt", None), values.get(NETWORK)
    if adopt is None or not isinstance(spec, str) or spec in zoo.names():
        return None
    if previous := _learned(runs, name, spec):
        settings = {key: previous.config[key] for key in adopt(zoo.Architecture("", 1, {}))}
    else:
        state = _weights_of(spec, runs)
        try:
            network = zoo.require_trainable(zoo.recognise(state, spec), spec)
        except CheckpointError as error:
            if (run := read(RunFolder(runs / spec))) is None:
                raise
            raise CheckpointError(
                f"{NETWORK} {spec}: only its own recipe, {run.recipe}, knows the network of this run. Begin with one "
                "that others know, by pixels: --set network=Compact --set judge=none --set perceptual=none"
            ) from error
        settings = adopt(network.architecture)
    for key, value in settings.items():
        if key != NETWORK and key in values and values[key] != value:
            raise ConfigError(f"{key} {values[key]} has no effect with the network of {spec}, whose is {value}")
    return Adopted(settings, spec)


def _weights_of(network: str, runs: Path) -> dict[str, Tensor]:
    try:
        return resolve(network, runs, NETWORK)
    except CheckpointError as error:
        known = {name.lower(): name for name in zoo.names()}
        if name := known.get(network.lower()):
            raise CheckpointError(f"{error}; the architecture is called {name}") from error
        raise


def first_of(model: Adopted, first: FirstWeights) -> FirstWeights:
    """Return the first weights of a run whose network is a model's; raise ConfigError if others were asked for, too."""
    if first.generator is not None:
        raise ConfigError(f"--init has no effect where network is {model.spec}, whose weights the run starts with")
    return replace(first, generator=model.spec)


def facts_of(first: FirstWeights, recipe: Recipe, runs: Path, name: str | None) -> dict[str, Any]:
    """Return what a run records of its first weights.

    A run that has a name and has learned something does not ask for them again: they may be gone.

    Raises:
        ConfigError: They don't fit.
        CheckpointError: There are none, or they can't be read.
    """
    facts: dict[str, Any] = {}
    if first.partly and first.generator is None:
        raise ConfigError("--init-partly has no effect without --init")
    if first.generator is not None:
        previous = _learned(runs, name, first.generator)
        digest = previous.init_sha256 if previous else origin.weights_digest(_generator(first, recipe, runs)[0])
        facts |= {"init": first.generator, "init_sha256": digest, "init_partly": first.partly}
    if first.judge is not None:
        judge = origin.judge_of(recipe)
        previous = _learned(runs, name, first.judge, "init_judge")
        digest = previous.init_judge_sha256 if previous else origin.weights_digest(_judge(first.judge, judge, runs))
        facts |= {"init_judge": first.judge, "init_judge_sha256": digest}
    return facts


def place(first: FirstWeights, run: Run, recipe: Recipe, folder: RunFolder, runs: Path) -> None:
    """Put a run's first weights into its folder, where all workers find them, and say what was taken.

    Raises:
        CheckpointError: They are no longer what they were when the run was prepared.
    """
    if first.generator is not None:
        state, said = _generator(first, recipe, runs)
        _write(folder.init, state, run.init_sha256, f"--init {first.generator}")
        note(said)
    if first.judge is not None:
        state = _judge(first.judge, origin.judge_of(recipe), runs)
        _write(folder.init_judge, state, run.init_judge_sha256, f"--init-judge {first.judge}")


def resolve(spec: str, runs: Path, option: str = "--init") -> dict[str, Tensor]:
    """Return the weights that an option names; none of the code that may lie beside them is executed.

    A `spec` is a run's name or folder, a checkpoint or model folder, a weights file, or an MLflow address.

    Raises:
        CheckpointError: There are none, or they can't be read.
    """
    try:
        path = locate(spec, runs)
        return weights.read(path / WEIGHTS if path.is_dir() else path)
    except CheckpointError as error:
        raise CheckpointError(f"{option} {spec}: {error}") from error


def resolve_judge(spec: str, name: str, runs: Path) -> dict[str, Tensor]:
    """Return the weights of the judge called `name` in a run's newest checkpoint, in a checkpoint folder, or in a file.

    Raises:
        CheckpointError: There are none, or they can't be read.
    """
    path = Path(spec)
    if path.is_file():
        return weights.read(path)
    for folder in (path, ownership.folder_of(spec, runs, lambda file: True)):
        saved = [folder] if (folder / STATE).is_file() else Checkpoints(folder / "checkpoints").folders()
        for checkpoint in saved[:1]:
            parts = load_state(checkpoint)["parts"]
            if name not in parts:
                raise CheckpointError(f"--init-judge {spec}: {checkpoint} has no '{name}'; it has {', '.join(parts)}")
            return dict(parts[name])
    raise CheckpointError(
        f"--init-judge {spec}: no weights file, and no run with a checkpoint, is at {path} or {folder}"
    )


def _learned(runs: Path, name: str | None, spec: str, field: str = "init") -> Run | None:
    """Return the run called `name`, if it has learned something and began with the weights called `spec`."""
    folder = RunFolder(runs / name) if name else None
    previous = read(folder) if folder and any(folder.checkpoints.glob("step_*")) else None
    return previous if previous and getattr(previous, field) == spec else None


def _generator(first: FirstWeights, recipe: Recipe, runs: Path) -> tuple[dict[str, Tensor], str]:
    """Return the generator's first weights, and in words what was taken, where not all was."""
    spec, network = str(first.generator), recipe.generator
    state = zoo.canonical(network, resolve(spec, runs), spec)
    own = network.state_dict()
    problem = weights.misfit(state, own)
    fits = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if problem and not (fits and first.partly):
        remedy = "--init-partly takes what fits" if fits else "Nothing fits: these are another network's weights"
        if isinstance(network, zoo.Adapted) and _can_be_adopted(state, spec):
            remedy += f"; --set {NETWORK}={spec} takes its network, too"
        raise ConfigError(f"--init {spec} does not fit the generator of this recipe as configured: {problem}. {remedy}")
    return fits, _taken(spec, fits, state, own) if problem else ""


def _can_be_adopted(state: dict[str, Tensor], spec: str) -> bool:
    try:
        return bool(zoo.require_trainable(zoo.recognise(state, spec), spec))
    except (CheckpointError, ConfigError):
        return False


def _taken(spec: str, fits: dict[str, Tensor], state: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    """Return in words which of a generator's `own` tensors were taken from a model's `state`, and which were not."""
    values = sum(value.numel() for value in fits.values()), sum(value.numel() for value in own.values())
    random = [name for name in own if name not in fits]
    unused = [name for name in state if name not in fits]
    lines = [
        f"--init {spec}: taken {len(fits)} of {len(own)} tensors, {values[0]:,} of {values[1]:,} values",
        f"  taken: {_grouped(fits)}",
    ]
    lines += [f"  left random: {_grouped(random, state, own)}"] if random else []
    lines += [f"  not used: {_grouped(unused, own, state)}"] if unused else []
    return "\n".join(lines)


def _grouped(names: Any, other: Mapping[str, Tensor] | None = None, here: Mapping[str, Tensor] | None = None) -> str:
    """Return names in words, those of one module together; with both shapes where the `other` side has such a name."""
    groups = Counter(name.partition(".")[0] for name in names)
    words = []
    for group, count in groups.items():
        first = next(name for name in names if name.partition(".")[0] == group)
        shapes = ""
        if other is not None and here is not None and first in other:
            shapes = f" {tuple(here[first].shape)}, not {tuple(other[first].shape)}"
        words.append(f"{first}{shapes}" if count == 1 else f"{group}.* ({count}, the first {first}{shapes})")
    more = f" and {len(words) - LISTED} more" if len(words) > LISTED else ""
    return "; ".join(words[:LISTED]) + more


def _judge(spec: str, judge: tuple[str, nn.Module], runs: Path) -> dict[str, Tensor]:
    """Return a judge's first weights; how many batches PyTorch's batch normalisation saw is left out."""
    name, network = judge
    own = network.state_dict()
    found = resolve_judge(spec, name, runs)
    state = {key: value for key, value in found.items() if key in own or not key.endswith(".num_batches_tracked")}
    if problem := weights.misfit(state, own):
        raise ConfigError(f"--init-judge {spec} does not fit the '{name}' of this recipe as configured: {problem}")
    return state


def _write(path: Path, state: dict[str, Tensor], digest: str, option: str) -> None:
    if origin.weights_digest(state) != digest:
        raise CheckpointError(f"{option} has changed while the run was prepared: start it again")
    origin.write_weights(path, state)
