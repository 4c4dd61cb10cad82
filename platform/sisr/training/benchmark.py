"""Training speed, side by side with that of a plain hand-written PyTorch loop of the same networks.

Both run in this process in turn, a few steps each, so that a machine that changes speed changes both. The platform's
time covers everything a real run does in a step: waiting for data, augmentation, degradation, the step, finite checks,
averaging, logging. Recipes without a hand-written opponent are measured alone. BasicSR can take the plain loop's place.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sisr.config.settings import build
from sisr.data.draws import Draws
from sisr.disk.run_folder import RunFolder
from sisr.recipe import RecipeModule, build_recipe, parts_of
from sisr.training import basicsr
from sisr.training.dataset import open_data
from sisr.training.device import choose_device, resolve
from sisr.training.loop import train
from sisr.training.opponents import plain_loop
from sisr.training.run import Run
from sisr.training.session import NoLog, Request
from sisr.training.update import Updates

BLOCK = 10  # steps of one loop before the other's turn
WARM_UP = 1  # blocks not counted
ALONE = 2  # blocks at the end without the opponent, in which waiting for data is measured


def steps_of(blocks: int, block: int = BLOCK) -> int:
    """Return how many steps a run needs for so many counted blocks of `block` steps."""
    return (WARM_UP + blocks + ALONE) * block


def race(run: Run, folder: RunFolder, blocks: int, block: int = BLOCK, checkout: Path | None = None) -> dict[str, Any]:
    """Train a run of `steps_of(blocks, block)` steps; return its speed, beside that of an opponent where there is one.

    Args:
        run: Names no recipe file where BasicSR is to be the opponent.
        folder: Empty.
        blocks: Turns that count.
        block: Steps of each turn.
        checkout: Of BasicSR, which is the opponent then; None: the plain loop.

    Returns:
        Times in ms a step, images/s, the share of waiting for data, ratios to the opponent's times, and on a GPU the
        most memory in GiB that PyTorch held for the platform's steps.

    Raises:
        ConfigError: The checkout can't be used, or not for this recipe.
    """
    device = choose_device()
    number_format = resolve(run.options.precision, device)
    with torch.device("meta"):
        recipe = run.build_recipe()
    config, opponent, name = run.recipe_config(), None, "plain"
    if checkout is not None:
        basicsr.require(run.recipe, config, checkout)
        store, pairs, name = open_data(run, recipe).store, folder.path / "pairs", "basicsr"
        opponent = basicsr.basicsr_loop(checkout, run.recipe, config, store, device, pairs)
    elif not run.recipe_source:
        opponent = plain_loop(run.recipe, config, open_data(run, recipe).store, device, number_format)
    session = Alternating(folder, device, opponent, WARM_UP + blocks, block)
    status = train(run, folder, session, NoLog())
    ours, theirs = session.ours[WARM_UP:], session.theirs[WARM_UP:]
    cpu = f"CPU, {torch.get_num_threads()} threads"
    result = {
        "recipe": run.recipe,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "precision": number_format,
        "batch_size": config.batch_size,
        "hr_crop": recipe.crop.side,
        "step_ms": median(ours) * 1000,
        "steps_per_hour": 3600 / median(ours),
        "images_per_second": config.batch_size / median(ours),
        "data_wait_share": status["data_wait_share"],
    }
    if session.memory_bytes is not None:
        result["memory_gib"] = session.memory_bytes / 2**30
    if theirs:
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        result |= {f"{name}_step_ms": median(theirs) * 1000, f"ratio_to_{name}": median(ratios)}
        result |= {"ratio_least": min(ratios), "ratio_greatest": max(ratios)}
    return result


class Alternating:
    """A session that lets a plain loop run between blocks of the platform's steps, and takes both times."""

    def __init__(
        self, folder: RunFolder, device: torch.device, opponent: Iterator[None] | None, turns: int, block: int
    ) -> None:
        self.folder, self.device, self.rank, self.world = folder, device, 0, 1
        self._opponent, self._steps, self._turns, self._block = opponent, 0, turns, block
        self._mark = 0.0
        self.memory_bytes: int | None = None  # of the first block, when the opponent has not begun; None: not on a GPU
        self.ours: list[float] = []  # s per step, of each block
        self.theirs: list[float] = []

    def request(self, step: int) -> Request:
        # Called before the first step of the platform's loop and after each, which makes it a clock.
        self._steps += 1
        if self._steps == 1:
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            self._mark = self._now()
        elif self._steps % self._block == 1 and len(self.ours) < self._turns:
            self.ours.append((self._now() - self._mark) / self._block)
            if not self.theirs and self.device.type == "cuda":
                self.memory_bytes = torch.cuda.max_memory_allocated(self.device)
            if self._opponent:
                start = self._now()
                for _ in range(self._block):
                    next(self._opponent)
                self.theirs.append((self._now() - start) / self._block)
            self._mark = self._now()
        return Request.CONTINUE

    def saved(self, step: int) -> None: ...

    def wait_for_others(self) -> None: ...

    def report(self, step: int, metrics: dict[str, float]) -> None: ...

    def _now(self) -> float:
        _wait_for(self.device)
        return time.perf_counter()


def flops_of_step(module: RecipeModule, values: Mapping[str, Any], device: torch.device, batch_size: int = 2) -> int:
    """Return how many floating point operations a recipe's step takes: a multiplication with an addition is two.

    Convolutions and matrix products count, forward and backward; resampling, activations and optimizers do not. It is
    counted on a batch of `batch_size`; `values` are settings.
    """
    config = build(module.Config, dict(values), source="the measurement's settings")
    recipe = build_recipe(module, config.model_copy(update={"batch_size": batch_size}))
    parts = parts_of(recipe)
    for part in parts.values():
        if isinstance(part, nn.Module):
            part.to(device)
    updates = Updates({name: part for name, part in parts.items() if isinstance(part, Optimizer)})
    draws = Draws(0, 0, 0, batch_size, device)
    hr = torch.rand(batch_size, 3, recipe.crop.side, recipe.crop.side, device=device)
    lr = recipe.degrade(hr, draws)
    updates.begin()
    with Flops() as counted:
        recipe.train_step(lr, hr, draws, 0, updates)
    return counted.total * config.batch_size // batch_size


class Flops(TorchDispatchMode):
    """Counts the floating point operations inside it; torch's own counter fails at second derivatives."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let every operation happen, and count those that torch has a formula for."""
        out = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.total += int(formula(*args, **(kwargs or {}), out_val=out))
        return out


def peaks(device: torch.device, side: int = 8192, repetitions: int = 10) -> dict[str, float]:
    """Return what a device reaches at best: matrix products in TFLOP/s by number format, and copying in GB/s.

    `tf32` is float32 as convolutions compute it on GPUs by default.
    """
    found = {}
    tf32 = torch.backends.cuda.matmul.allow_tf32
    try:
        for name, dtype in {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}.items():
            torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
            one, other = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
            found[name] = 2 * side**3 / _seconds(lambda a=one, b=other: a @ b, device, repetitions) / 1e12  # type: ignore[misc]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    source = torch.rand(8 * side**2, device=device)
    target = torch.empty_like(source)
    found["copy_gb_s"] = 2 * source.nbytes / _seconds(lambda: target.copy_(source), device, repetitions) / 1e9
    return found


def _seconds(work: Callable[[], Any], device: torch.device, repetitions: int) -> float:
    """Return how long one of several repetitions takes, after one that is not counted."""
    work()
    _wait_for(device)
    start = time.perf_counter()
    for _ in range(repetitions):
        work()
    _wait_for(device)
    return (time.perf_counter() - start) / repetitions


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
