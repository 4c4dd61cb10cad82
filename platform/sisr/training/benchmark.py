"""Training speed, side by side with that of a plain hand-written PyTorch loop of the same networks.

Both run in this process in turn, a few steps each, so that a machine that changes speed changes both. The platform's
time covers everything a real run does in a step: waiting for data, augmentation, degradation, the step, finite checks,
averaging, logging. The plain loop holds its images decoded in memory and does nothing that it does not need.
Recipes without a hand-written opponent are measured alone.
"""

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, l1_loss
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from sisr import recipes
from sisr.data.store import Store
from sisr.disk.run_folder import RunFolder
from sisr.training.dataset import open_data
from sisr.training.device import autocast, choose_device, resolve
from sisr.training.loop import train
from sisr.training.run import Run
from sisr.training.session import NoLog, Request

BLOCK = 10  # steps of one loop before the other's turn
WARM_UP = 1  # blocks not counted
ALONE = 2  # blocks at the end without the opponent, in which waiting for data is measured


def steps_of(blocks: int) -> int:
    """Return how many steps a run needs for so many counted blocks."""
    return (WARM_UP + blocks + ALONE) * BLOCK


def race(run: Run, folder: RunFolder, blocks: int) -> dict[str, Any]:
    """Train a run of `steps_of(blocks)` steps and return its speed, beside that of a plain loop where there is one.

    Returns:
        Times in ms a step, images/s, the share of waiting for data, and ratios to the plain loop's times.
    """
    device = choose_device()
    number_format = resolve(run.options.precision, device)
    with torch.device("meta"):
        recipe = run.build_recipe()
    config, plain = run.recipe_config(), None if run.recipe_source else PLAIN.get(run.recipe)
    opponent = plain(config, open_data(run, recipe).store, device, number_format) if plain else None
    session = Alternating(folder, device, opponent, WARM_UP + blocks)
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
    if theirs:
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        result |= {"plain_step_ms": median(theirs) * 1000, "ratio_to_plain": median(ratios)}
        result |= {"ratio_least": min(ratios), "ratio_greatest": max(ratios)}
    return result


class Alternating:
    """A session that lets a plain loop run between blocks of the platform's steps, and takes both times."""

    def __init__(self, folder: RunFolder, device: torch.device, opponent: Iterator[None] | None, turns: int) -> None:
        self.folder, self.device, self.rank, self.world = folder, device, 0, 1
        self._opponent, self._steps, self._turns = opponent, 0, turns
        self._mark = 0.0
        self.ours: list[float] = []  # s per step, of each block
        self.theirs: list[float] = []

    def request(self, step: int) -> Request:
        # Called before the first step of the platform's loop and after each, which makes it a clock.
        self._steps += 1
        if self._steps == 1:
            self._mark = self._now()
        elif self._steps % BLOCK == 1 and len(self.ours) < self._turns:
            self.ours.append((self._now() - self._mark) / BLOCK)
            if self._opponent:
                start = self._now()
                for _ in range(BLOCK):
                    next(self._opponent)
                self.theirs.append((self._now() - start) / BLOCK)
            self._mark = self._now()
        return Request.CONTINUE

    def saved(self, step: int) -> None: ...

    def wait_for_others(self) -> None: ...

    def report(self, step: int, metrics: dict[str, float]) -> None: ...

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _plain_crops(store: Store, batch_size: int, side: int, device: torch.device) -> Iterator[Tensor]:
    """Yield hr batches the way a notebook does: images in memory, random crop, random flip."""
    images = [torch.from_numpy(np.array(store[i])).permute(2, 0, 1) for i in range(len(store))]
    while True:
        crops = []
        for index in torch.randint(len(images), (batch_size,)).tolist():
            image = images[index]
            top = int(torch.randint(image.shape[1] - side + 1, ()))
            left = int(torch.randint(image.shape[2] - side + 1, ()))
            crop = image[:, top : top + side, left : left + side]
            crops.append(crop.flip(2) if torch.rand(()) < 0.5 else crop)
        batch = torch.stack(crops).to(device)
        yield (batch.float() / 255).contiguous(memory_format=torch.channels_last)


def _plain_pixelshuffle(config: Any, store: Store, device: torch.device, number_format: str) -> Iterator[None]:
    """Train the pixelshuffle network as a notebook would, without its blur; each `next` is one step."""
    generator = recipes.load("pixelshuffle").generator(config).to(device).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(generator.parameters(), lr=config.learning_rate, fused=True)
    for hr in _plain_crops(store, config.batch_size, config.hr_crop, device):
        lr = interpolate(hr, scale_factor=1 / config.scale, mode="bicubic", antialias=True)
        with autocast(number_format, device):
            loss = l1_loss(generator(lr), hr)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        yield


def _plain_srez(config: Any, store: Store, device: torch.device, number_format: str) -> Iterator[None]:
    """Train srez's networks as a notebook would, with both judgements of sr from one pass; each `next` is one step."""
    networks: Any = recipes.load("srez").Recipe(config)
    layout = {"memory_format": torch.channels_last}
    generator, discriminator = (n.to(device).to(**layout) for n in (networks.generator, networks.discriminator))
    betas = (config.beta1, config.beta2)
    adam_g = torch.optim.Adam(generator.parameters(), lr=config.learning_rate, betas=betas, fused=True)
    adam_d = torch.optim.Adam(discriminator.parameters(), lr=config.learning_rate, betas=betas, fused=True)
    weight = config.adversarial_weight
    for source in _plain_crops(store, config.batch_size, config.source_side, device):
        hr = avg_pool2d(source, config.source_side // config.hr_crop)
        lr = avg_pool2d(hr, config.scale)
        with autocast(number_format, device):
            sr = generator(lr + config.input_noise * torch.randn_like(lr))
            real, fake = discriminator(hr), discriminator(sr)
            pixel = l1_loss(avg_pool2d(sr.float(), config.scale), lr)
            loss_g = (1 - weight) * pixel + weight * bce(fake, torch.ones_like(fake))
            loss_d = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
        gradients_g = torch.autograd.grad(loss_g, list(generator.parameters()), retain_graph=True)
        gradients_d = torch.autograd.grad(loss_d, list(discriminator.parameters()))
        for parameters, gradients in ((generator, gradients_g), (discriminator, gradients_d)):
            for parameter, gradient in zip(parameters.parameters(), gradients, strict=True):
                parameter.grad = gradient
        adam_g.step()
        adam_d.step()
        yield


PLAIN: dict[str, Callable[..., Iterator[None]]] = {"pixelshuffle": _plain_pixelshuffle, "srez": _plain_srez}
