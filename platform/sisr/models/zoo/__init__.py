"""Networks of other projects, which the optional package spandrel knows: built by name, recognised by their weights.

They are trained like ours, and keep the names of their tensors, so that other programs recognise what was trained. What
draws random numbers in them (dropout, stochastic depth) is off, because here every draw is a function of seed, step and
example; batch normalisation keeps the statistics of its weights.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from sisr.config.wording import did_you_mean
from sisr.errors import CheckpointError, ConfigError
from sisr.models.weights import first_line
from sisr.models.zoo.network import (
    CHANNELS,
    SCALES,
    Adapted,
    Architecture,
    Called,
    classes,
    generator_of,
    plain,
    spandrel,
)
from sisr.models.zoo.span import fold
from sisr.nets.generator import Generator

__all__ = [
    "Adapted",
    "Architecture",
    "Called",
    "build",
    "canonical",
    "names",
    "ready",
    "recognise",
    "require_trainable",
]


def names() -> list[str]:
    """Return the name of every architecture, sorted; raise ConfigError without spandrel."""
    return sorted(classes())


def build(name: str, scale: int, options: dict[str, Any]) -> Adapted:
    """Return a network with new weights.

    `options` are those of its constructor; scale and channels (RGB) need not be among them.

    Raises:
        ConfigError: spandrel is missing, there is no such architecture, or it can't be built so, or spandrel would not
            recognise its weights as this very network.
    """
    known = classes()
    if name not in known:
        hint = did_you_mean(name, known) or f"all: {', '.join(sorted(known))}"
        raise ConfigError(f"no architecture '{name}'; {hint}. Or name a run, a model folder or a weights file")
    takes = inspect.signature(known[name]).parameters
    if unknown := [option for option in options if option not in takes]:
        hint = did_you_mean(unknown[0], takes) or f"all: {', '.join(takes)}"
        raise ConfigError(f"{name} has no option '{unknown[0]}'; {hint}")
    given = {key: scale for key in SCALES if key in takes} | {key: 3 for key in CHANNELS if key in takes} | options
    words = f"{name} with {', '.join(f'{key}={value}' for key, value in given.items())}"
    try:
        network = known[name](**given)
    except Exception as error:  # other people's code, with a user's numbers
        if _needs_memory(error):
            raise
        raise ConfigError(f"{words} can't be built: {type(error).__name__}: {first_line(error)}") from error
    with torch.random.fork_rng(devices=[]):
        found = _loaded(network.state_dict(), words)
    if apart := _apart(network, found.model):
        raise ConfigError(f"{words} would be taken for another network by its weights: {apart}")
    return require_trainable(generator_of(found), name)


def recognise(state: dict[str, Tensor], what: str) -> Adapted | Called:
    """Return the network that weights belong to, with these weights in float32, in evaluation mode.

    `what` is how messages call them.

    Raises:
        CheckpointError: spandrel is not installed, or does not know such weights, or they are of no RGB upscaler.
    """
    try:
        network = generator_of(_loaded(state, what))
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    return network.float().eval()


def canonical(network: nn.Module, state: dict[str, Tensor], what: str) -> dict[str, Tensor]:
    """Return weights under the names that `network` has for them, where it is one of spandrel's and they have others.

    ESRGAN's were renamed twice, for one; what is not recognised is returned as it is.
    """
    if not isinstance(network, Adapted) or state.keys() == network.state_dict().keys():
        return state
    try:
        return dict(recognise(state, what).state_dict())
    except CheckpointError:
        return state


def require_trainable(network: Generator, what: str) -> Adapted:
    """Return the network; raise ConfigError if it can only be used."""
    if not isinstance(network, Adapted):
        raise ConfigError(f"{what} can be used, but not trained: spandrel calls such a network in a way of its own")
    return network


def ready(generator: Generator) -> Generator:
    """Return a generator as it is used once its weights are final: faster, and not to be trained."""
    return fold(generator) if isinstance(generator, Adapted) else generator


def _loaded(state: dict[str, Tensor], what: str) -> Any:
    """Return what spandrel makes of weights: an image upscaler's descriptor; raise ConfigError if it can't."""
    package = spandrel()
    try:
        found = package.MAIN_REGISTRY.load(dict(state))
    except package.UnsupportedModelError as error:
        raise ConfigError(f"{what} is of no architecture that spandrel knows") from error
    except Exception as error:  # it guesses sizes from shapes, and fails in many ways
        if _needs_memory(error):
            raise
        raise ConfigError(
            f"{what} looks like weights that spandrel knows, but their sizes are not those of a published network: "
            f"{first_line(error)}"
        ) from error
    if not isinstance(found, package.ImageModelDescriptor) or (found.input_channels, found.output_channels) != (3, 3):
        raise ConfigError(
            f"{what} is a {found.architecture.name} for {found.input_channels} -> {found.output_channels} channels; "
            "a model must make RGB images of RGB images"
        )
    if found.size_requirements.square:
        raise ConfigError(f"{what} is a {found.architecture.name}, which takes square images only")
    return found


def _needs_memory(error: Exception) -> bool:
    """Return whether something computes with numbers while it is built, which tensors without memory don't have."""
    return "meta tensor" in str(error)


def _apart(one: Any, other: Any) -> str:
    """Return the options in which two networks differ, in words; empty where they are the same."""
    if type(one) is not type(other):
        return f"a {type(other).__name__}"
    # What leaves things out at random is off, and may be anything.
    names = [name for name in one.hyperparameters if "drop" not in name]
    pairs = {name: (plain(one.hyperparameters[name]), plain(other.hyperparameters.get(name))) for name in names}
    return ", ".join(f"{name}={there} instead of {here}" for name, (here, there) in pairs.items() if here != there)
