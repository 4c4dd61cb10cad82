"""What every recipe must do, as checks: of `sisr recipes FILE --check`, of the tests, and in part of every start."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sisr.data.draws import Draws
from sisr.errors import ConfigError
from sisr.recipe import Crop, RecipeModule, parameter_count
from sisr.training.rehearsal import SEED, STEPS, Trainer, different, tensors

METHODS = ("parts", "degrade", "train_step")
GENERATOR = {  # what inference asks of a generator
    "scale": "sr side / lr side",
    "halo": "lr px that an output pixel looks to each side; None: the whole image",
    "size_multiple": "lr px that both sides must be a multiple of; 1: any",
}


class BrokenError(Exception):
    """A recipe breaks the contract; the message says how."""


def require(recipe: Any, where: str) -> None:
    """Make sure that a recipe that was built has what the loop and inference will ask for.

    Raises:
        ConfigError: Something is missing or has a wrong type; the message names it.
    """
    missing = [name for name in METHODS if not callable(getattr(recipe, name, None))]
    missing += [name for name in ("scale", "crop", "generator") if not hasattr(recipe, name)]
    if missing:
        raise ConfigError(f"{where}: Recipe lacks {', '.join(missing)}; see sisr.recipe.Recipe")
    if not isinstance(recipe.crop, Crop):
        raise ConfigError(f"{where}: Recipe.crop must be a sisr.recipe.Crop, got {recipe.crop!r}")
    generator = recipe.generator
    if not isinstance(generator, nn.Module):
        raise ConfigError(f"{where}: Recipe.generator must be a torch.nn.Module, got {type(generator).__name__}")
    if absent := [f"{name} ({meaning})" for name, meaning in GENERATOR.items() if not hasattr(generator, name)]:
        raise ConfigError(f"{where}: the generator {type(generator).__name__} lacks {'; '.join(absent)}")
    for owner, name in ((recipe, "scale"), (generator, "scale"), (generator, "size_multiple")):
        if not isinstance(value := getattr(owner, name), int) or value < 1:
            raise ConfigError(f"{where}: {type(owner).__name__}.{name} must be a whole number >= 1, got {value!r}")
    if not (generator.halo is None or (isinstance(generator.halo, int) and generator.halo >= 0)):
        raise ConfigError(f"{where}: {type(generator).__name__}.halo must be None or >= 0, got {generator.halo!r}")
    if recipe.scale != generator.scale:
        raise ConfigError(f"{where}: Recipe.scale is {recipe.scale}, but its generator's is {generator.scale}")
    _check_output(generator, where)
    parts = recipe.parts()
    if parts.get("generator") is not generator:
        raise ConfigError(f"{where}: Recipe.parts() must hold the generator as 'generator', holds {', '.join(parts)}")
    if wrong := [name for name, part in parts.items() if not isinstance(part, nn.Module | Optimizer)]:
        raise ConfigError(f"{where}: Recipe.parts() may hold networks and optimizers only; wrong: {', '.join(wrong)}")


@torch.no_grad()
def _check_output(generator: Any, where: str) -> None:
    """Raise ConfigError unless the generator makes sr of the size that its scale promises, where that can be tried."""
    example = next(generator.parameters(), torch.empty(0))
    side = -(-32 // generator.size_multiple) * generator.size_multiple
    try:
        sr = generator(torch.zeros(1, 3, side, side, device=example.device))
    except (NotImplementedError, RuntimeError):
        if not example.is_meta:
            raise
        return  # a network that computes with numbers can't be tried with shapes only
    right = (1, 3, side * generator.scale, side * generator.scale)
    if not isinstance(sr, Tensor) or tuple(sr.shape) != right:
        made = tuple(sr.shape) if isinstance(sr, Tensor) else type(sr).__name__
        raise ConfigError(f"{where}: of lr (1, 3, {side}, {side}) the generator must make sr {right}, it made {made}")


def has_what_is_asked_for(module: RecipeModule) -> None:
    """Fail unless the recipe and its generator alone have all that the loop and inference use."""
    trainer = Trainer(module)
    require(trainer.recipe, "it")
    _expect(isinstance(trainer.config, module.Config), f"tiny() must return a Config, got {trainer.config!r}")
    alone = module.generator(trainer.config).state_dict().keys()
    _expect(alone == trainer.recipe.generator.state_dict().keys(), "generator(config) differs from Recipe's generator")
    _expect(trainer.recipe.scale == trainer.config.scale, "Recipe.scale differs from Config.scale")


def makes_lr_of_hr(module: RecipeModule) -> None:
    """Fail unless `degrade` makes images of the right size in [0, 1]."""
    trainer = Trainer(module)
    lr = trainer.recipe.degrade(trainer.hr(0), Draws(SEED, 0, 0, trainer.share))
    side = trainer.recipe.crop.side // trainer.recipe.scale
    wanted = (trainer.share, 3, side, side)
    _expect(tuple(lr.shape) == wanted, f"degrade made {tuple(lr.shape)}, wanted {wanted}")
    _expect(bool(lr.min() >= 0 and lr.max() <= 1), f"lr lies in {lr.min():.3g} .. {lr.max():.3g}, wanted 0 .. 1")


def gives_every_value_one_optimizer(module: RecipeModule) -> None:
    """Fail unless each trainable value belongs to exactly one optimizer, and all are in `parts`."""
    trainer = Trainer(module)
    groups = [group for optimizer in trainer.optimizers.values() for group in optimizer.param_groups]
    owned = [p for group in groups for p in group["params"]]
    _expect(len(set(owned)) == len(owned), "a network's values belong to two optimizers")
    there, moved = sum(map(parameter_count, trainer.networks.values())), sum(p.numel() for p in owned)
    _expect(there == moved, f"the networks in parts() have {there} trainable values, the optimizers {moved}")


def moves_every_network(module: RecipeModule) -> None:
    """Fail unless a few steps move every network that can be trained and leave finite numbers."""
    trainer = Trainer(module)
    before = copy.deepcopy(trainer.state())
    logged = trainer.run(range(STEPS))
    _expect(not trainer.updates.skipped, "a gradient was not finite")
    for key, network in trainer.networks.items():
        moved = [not torch.equal(p, before[key][n]) for n, p in network.named_parameters() if p.requires_grad]
        _expect(any(moved) or not moved, f"{key} did not move in {STEPS} steps")
    broken = [path for path, value in tensors(trainer.state()).items() if not torch.isfinite(value).all()]
    broken += [name for scalars in logged for name, value in scalars.items() if not torch.isfinite(value).all()]
    _expect(not broken, f"not finite after {STEPS} steps: {', '.join(broken[:3])}")


def logs_detached_scalars(module: RecipeModule) -> None:
    """Fail unless `train_step` returns tensors of one number each, without a graph."""
    for scalars in Trainer(module).run(range(STEPS)):
        wrong = [n for n, v in scalars.items() if not isinstance(v, Tensor) or v.ndim or v.requires_grad]
        _expect(not wrong, f"train_step must return detached scalar tensors; wrong: {', '.join(wrong)}")


def keeps_the_judges_out_of_the_generators_loss(module: RecipeModule) -> None:
    """Fail if the generator's updates move, or leave gradients in, any other network."""
    trainer = Trainer(module)
    generator = set(trainer.recipe.generator.parameters())
    others = {n: p for key, network in trainer.networks.items() for n, p in _named(key, network) if p not in generator}
    changed: set[str] = set()

    def generator_only(optimizer: Optimizer, loss: Tensor, *, retain_graph: bool = False) -> None:
        if optimizer.param_groups[0]["params"][0] not in generator:
            return
        before = {name: value.detach().clone() for name, value in others.items()}
        trainer.updates(optimizer, loss, retain_graph=retain_graph)
        changed.update(n for n, p in others.items() if not torch.equal(p, before[n]) or p.grad is not None)

    trainer.updates.begin()
    hr = trainer.hr(0)
    for step in range(STEPS):
        draws = Draws(SEED, step, 0, trainer.share)
        trainer.recipe.train_step(trainer.recipe.degrade(hr, draws), hr, draws, step, generator_only)
    _expect(not changed, f"the generator's loss changed {', '.join(sorted(changed)[:3])}")


def repeats_itself(module: RecipeModule) -> None:
    """Fail unless the same seed gives the same steps, whatever else was drawn before."""
    one, other = Trainer(module), Trainer(module)
    one.run(range(STEPS))
    torch.manual_seed(12345)
    other.run(range(STEPS))
    apart = different(one.state(), other.state())
    _expect(not apart, f"the same seed gave other values in {', '.join(apart[:3])}: draw from `draws` only")


def goes_on_after_loading(module: RecipeModule) -> None:
    """Fail unless steps, saved, loaded and continued, equal uninterrupted ones."""
    whole, begun, resumed = Trainer(module), Trainer(module), Trainer(module)
    whole.run(range(STEPS))
    begun.run(range(STEPS // 2))
    saved = copy.deepcopy(begun.state())
    for key, part in resumed.parts.items():
        part.load_state_dict(saved[key])
    resumed.run(range(STEPS // 2, STEPS))
    apart = different(whole.state(), resumed.state())
    _expect(not apart, f"a resumed run differs in {', '.join(apart[:3])}: keep all state in parts()")


def accepts_the_sizes_it_claims(module: RecipeModule) -> None:
    """Fail unless the generator enlarges images of the sizes that it claims to take."""
    generator: Any = Trainer(module).recipe.generator.eval()
    multiple, scale = generator.size_multiple, generator.scale
    for rows, columns in [(-(-8 // multiple), -(-8 // multiple)), (1, 3), (5, 2)]:
        height, width = rows * multiple, columns * multiple
        sr = generator(torch.rand(1, 3, height, width))
        wanted = (1, 3, scale * height, scale * width)
        _expect(tuple(sr.shape) == wanted, f"the generator made {tuple(sr.shape)} of {height}x{width}, wanted {wanted}")


CHECKS: dict[str, Callable[[RecipeModule], None]] = {
    "builds from tiny() and has what training and inference ask for": has_what_is_asked_for,
    "makes lr of hr, in the range of images": makes_lr_of_hr,
    "gives every trainable value exactly one optimizer": gives_every_value_one_optimizer,
    "moves every network and leaves no NaN": moves_every_network,
    "logs detached scalars": logs_detached_scalars,
    "keeps the judge out of the generator's loss": keeps_the_judges_out_of_the_generators_loss,
    "gives the same steps for the same seed": repeats_itself,
    "goes on after saving and loading as if uninterrupted": goes_on_after_loading,
    "makes sr of every size it claims to take": accepts_the_sizes_it_claims,
}


def verdicts(module: RecipeModule) -> Iterator[tuple[str, Exception | None]]:
    """Yield what was checked, and what is wrong with it or None; whatever a recipe raises is a verdict, too."""
    for what, check in CHECKS.items():
        try:
            check(module)
        except Exception as error:
            yield what, error
        else:
            yield what, None


def _named(key: str, network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((f"{key}.{name}", value) for name, value in network.named_parameters())


def _expect(true: bool, otherwise: str) -> None:
    if not true:
        raise BrokenError(otherwise)
