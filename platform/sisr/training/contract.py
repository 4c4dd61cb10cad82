"""What every recipe must do, as checks: of `sisr recipes FILE --check`, of the tests, and in part of every start."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sisr.data.draws import Draws
from sisr.errors import ConfigError
from sisr.inference.probe import grey_lr
from sisr.recipe import Crop, Generator, RecipeModule, Roles, as_generator, parameter_count, parts_of, roles_of
from sisr.training.device_reads import DeviceReads
from sisr.training.rehearsal import SEED, STEPS, Trainer, different, tensors


class BrokenError(Exception):
    """A recipe breaks the contract; the message says how."""


def require(recipe: Any, where: str) -> None:
    """Raise ConfigError unless a recipe that was built has what the loop and inference will ask for."""
    missing = [name for name in ("degrade", "train_step") if not callable(getattr(recipe, name, None))]
    if missing:
        raise ConfigError(f"{where}: Recipe lacks {', '.join(missing)}; see sisr.recipe.Recipe")
    if not isinstance(crop := getattr(recipe, "crop", None), Crop):
        raise ConfigError(f"{where}: Recipe.crop must be a sisr.recipe.Crop, got {crop!r}")
    parts, roles = parts_of(recipe), roles_of(recipe)
    holds_generator = parts.get("generator") is recipe.generator
    if not holds_generator:
        raise ConfigError(f"{where}: Recipe.parts() must hold the generator as 'generator', holds {', '.join(parts)}")
    if wrong := [name for name, part in parts.items() if not isinstance(part, nn.Module | Optimizer)]:
        raise ConfigError(f"{where}: Recipe.parts() may hold networks and optimizers only; wrong: {', '.join(wrong)}")
    if not isinstance(roles, Roles):
        raise ConfigError(f"{where}: Recipe.roles must be a sisr.recipe.Roles, got {roles!r}")
    for judge in roles.judges:
        if not isinstance(parts.get(judge.network), nn.Module):
            raise ConfigError(f"{where}: Recipe.roles names the judge '{judge.network}', which is no network of Recipe")
    if problem := wrong_size(recipe.generator, 8, 8):
        raise ConfigError(f"{where}: {problem}")


@torch.no_grad()
def wrong_size(generator: Generator, height: int, width: int) -> str | None:
    """Return in words how the size of sr differs from what a generator promises for an lr, or None.

    lr is larger where the generator takes no such size. Its mode, training or evaluation, stays as it was.
    """
    tiling, mode = generator.tiling, generator.training
    height, width = tiling.padded(height), tiling.padded(width)
    sr = generator.eval()(grey_lr(generator, height, width))
    generator.train(mode)
    found, right = tuple(sr.shape), (1, 3, tiling.scale * height, tiling.scale * width)
    if found == right:
        return None
    return (
        f"the generator {type(generator).__name__} of scale {tiling.scale} made sr of size {found} from lr of size "
        f"{(1, 3, height, width)}; it must be {right}"
    )


def require_scalars(logged: Any, where: str) -> None:
    """Raise ConfigError unless a training step returned what can be logged: tensors of one number by name."""
    if not isinstance(logged, dict):
        raise ConfigError(f"{where}: train_step must return a dict of scalar tensors by name, got {logged!r:.80}")
    for name, value in logged.items():
        if not isinstance(value, Tensor) or value.ndim:
            kind = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise ConfigError(f"{where}: train_step must return scalar tensors; '{name}' is {kind:.80}")


def _has_what_is_asked_for(module: RecipeModule) -> None:
    trainer = Trainer(module)
    require(trainer.recipe, "the recipe")
    _expect(isinstance(trainer.config, module.Config), f"tiny() must return a Config, got {trainer.config!r}")
    alone, trained = as_generator(module.generator(trainer.config)), trainer.recipe.generator
    same = alone.state_dict().keys() == trained.state_dict().keys() and alone.tiling == trained.tiling
    _expect(same, "generator(config) differs from Recipe's generator")
    scales = trained.tiling.scale, trainer.config.scale
    _expect(scales[0] == scales[1], f"the generator's scale is {scales[0]}, Config's {scales[1]}")


def _makes_lr_of_hr(module: RecipeModule) -> None:
    trainer = Trainer(module)
    lr = trainer.recipe.degrade(trainer.hr(0), Draws(SEED, 0, 0, trainer.count))
    side = trainer.recipe.crop.side // trainer.recipe.generator.tiling.scale
    right = (trainer.count, 3, side, side)
    _expect(tuple(lr.shape) == right, f"degrade made lr of size {tuple(lr.shape)}; it must be {right}")
    low, high = lr.min().item(), lr.max().item()
    _expect(low >= 0 and high <= 1, f"lr lies in {low:.3g} .. {high:.3g}; it must lie in 0 .. 1")


def _gives_every_value_one_optimizer(module: RecipeModule) -> None:
    trainer = Trainer(module)
    groups = [group for optimizer in trainer.optimizers.values() for group in optimizer.param_groups]
    owned = [p for group in groups for p in group["params"]]
    _expect(len(set(owned)) == len(owned), "a network's values belong to two optimizers")
    there, moved = sum(map(parameter_count, trainer.networks.values())), sum(p.numel() for p in owned)
    _expect(there == moved, f"the networks in parts() have {there} trainable values, the optimizers {moved}")


def _moves_every_network(module: RecipeModule) -> None:
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


def _logs_detached_scalars(module: RecipeModule) -> None:
    trainer = Trainer(module)
    logged = trainer.run(range(STEPS))
    for scalars in logged:
        require_scalars(scalars, "the recipe")
        wrong = [name for name, value in scalars.items() if value.requires_grad]
        _expect(not wrong, f"train_step must return detached tensors: use .detach(); wrong: {', '.join(wrong)}")
    declared = getattr(trainer.recipe, "roles", None)
    if declared is not None:
        named = {judge.scalar(side) for judge in declared.judges for side in ("real", "fake")} | {declared.pixel_loss}
        absent = sorted(named - {name for scalars in logged for name in scalars})
        _expect(not absent, f"roles names scalars that no step logged: {', '.join(absent)}")


def _keeps_the_judges_out_of_the_generators_loss(module: RecipeModule) -> None:
    trainer = Trainer(module)
    generator = set(trainer.recipe.generator.parameters())
    networks = trainer.networks.items()
    others = {f"{key}.{n}": p for key, net in networks for n, p in net.named_parameters() if p not in generator}
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
        draws = Draws(SEED, step, 0, trainer.count)
        trainer.recipe.train_step(trainer.recipe.degrade(hr, draws), hr, draws, step, generator_only)
    _expect(not changed, f"the generator's loss changed {', '.join(sorted(changed)[:3])}")


def _repeats_itself(module: RecipeModule) -> None:
    one, other = Trainer(module), Trainer(module)
    one.run(range(STEPS))
    torch.manual_seed(12345)
    other.run(range(STEPS))
    apart = different(one.state(), other.state())
    _expect(not apart, f"the same seed gave other values in {', '.join(apart[:3])}: draw from `draws` only")


def _goes_on_after_loading(module: RecipeModule) -> None:
    whole, begun, resumed = Trainer(module), Trainer(module), Trainer(module)
    whole.run(range(STEPS))
    begun.run(range(STEPS // 2))
    saved = copy.deepcopy(begun.state())
    for key, part in resumed.parts.items():
        part.load_state_dict(saved[key])
    resumed.run(range(STEPS // 2, STEPS))
    apart = different(whole.state(), resumed.state())
    _expect(not apart, f"a resumed run differs in {', '.join(apart[:3])}: keep all state in parts()")


def _accepts_the_sizes_it_claims(module: RecipeModule) -> None:
    generator = Trainer(module).recipe.generator
    multiple = generator.tiling.size_multiple
    for height, width in [(8, 8), (multiple, 3 * multiple), (5 * multiple, 2 * multiple)]:
        problem = wrong_size(generator, height, width)
        _expect(problem is None, str(problem))


# What a recipe must do, and the check that raises an error where it does not.
CHECKS: dict[str, Callable[[RecipeModule], None]] = {
    "builds from tiny() and has what training and inference ask for": _has_what_is_asked_for,
    "makes lr of hr, in the range of images": _makes_lr_of_hr,
    "gives every trainable value exactly one optimizer": _gives_every_value_one_optimizer,
    "moves every network and leaves no NaN": _moves_every_network,
    "logs detached scalars": _logs_detached_scalars,
    "keeps the judge out of the generator's loss": _keeps_the_judges_out_of_the_generators_loss,
    "gives the same steps for the same seed": _repeats_itself,
    "goes on after saving and loading as if uninterrupted": _goes_on_after_loading,
    "makes sr of every size it claims to take": _accepts_the_sizes_it_claims,
}


def verdicts(module: RecipeModule) -> Iterator[tuple[str, Exception | None]]:
    """Yield what was checked, and what is wrong with it or None; whatever a recipe raises is a verdict, too."""
    for what, check in CHECKS.items():
        problem = None
        try:
            check(module)
        except Exception as error:
            problem = error
        yield what, problem


def reads_per_step(module: RecipeModule) -> float:
    """Return how often a step, which is not the first one, reads a number back and so waits for its device."""
    trainer = Trainer(module)
    trainer.step(0)
    with DeviceReads() as reads:
        trainer.run(range(1, STEPS))
    return reads.count / (STEPS - 1)


def _expect(true: bool, otherwise: str) -> None:
    if not true:
        raise BrokenError(otherwise)
