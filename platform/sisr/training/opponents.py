"""Plain hand-written PyTorch loops that train a recipe's networks as a notebook would: the platform's opponents.

Each holds its images decoded in memory (on a GPU: in its memory), cuts and flips at random, makes lr without the
recipe's own care, takes the same steps of the same networks along losses written out here, and does nothing else: no
checks, averages, logs or checkpoints. Each `next` is one step.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, l1_loss, mse_loss
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam, Optimizer

from sisr import recipes
from sisr.data.store import Store
from sisr.training.device import autocast

Steps = Iterator[None]


def plain_loop(recipe: str, config: Any, store: Store, device: torch.device, number_format: str) -> Steps | None:
    """Return the loop that trains one of our recipes, or None where nobody has written one."""
    loop = LOOPS.get(recipe)
    return None if loop is None else loop(config, store, device, number_format)


def _crops(store: Store, batch_size: int, side: int, device: torch.device) -> Iterator[Tensor]:
    """Yield hr batches: random crop, random flip."""
    place = device if device.type == "cuda" else torch.device("cpu")
    images = [torch.from_numpy(np.array(store[i])).permute(2, 0, 1).to(place) for i in range(len(store))]
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


def _pairs(config: Any, store: Store, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield lr and hr batches."""
    for hr in _crops(store, config.batch_size, config.hr_crop, device):
        yield interpolate(hr, scale_factor=1 / config.scale, mode="bicubic", antialias=True), hr


def networks(recipe: str, config: Any, device: torch.device, *, channels_last: bool = True) -> Any:
    """Return a recipe of ours, for its networks: on the device, laid out as asked."""
    made: Any = recipes.load(recipe).Recipe(config)
    for part in vars(made).values():
        if isinstance(part, nn.Module):
            part.to(device)
            if channels_last:
                part.to(memory_format=torch.channels_last)
    return made


def _adam(network: nn.Module, learning_rate: float, config: Any, *, fused: bool = True) -> Adam:
    betas = (config.beta1, config.beta2)
    return Adam(network.parameters(), lr=learning_rate, betas=betas, fused=fused)


def _step(optimizer: Optimizer, loss: Tensor, *, retain_graph: bool = False) -> None:
    """Step along the gradient of a loss for the optimizer's own parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = torch.autograd.grad(loss, parameters, retain_graph=retain_graph)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()


def _pixel_loss(recipe: str) -> Callable[..., Steps]:
    """Return the loop of a recipe that has a generator and L1 alone."""

    def loop(config: Any, store: Store, device: torch.device, number_format: str) -> Steps:
        generator = networks(recipe, config, device).generator
        adam = _adam(generator, config.learning_rate, config)
        for lr, hr in _pairs(config, store, device):
            with autocast(number_format, device):
                loss = l1_loss(generator(lr).float(), hr)
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            yield

    return loop


def _srez(config: Any, store: Store, device: torch.device, number_format: str) -> Steps:
    """Take both networks' steps from one forward pass."""
    made = networks("srez", config, device)
    generator, discriminator = made.generator, made.discriminator
    adam_g = _adam(generator, config.learning_rate, config)
    adam_d = _adam(discriminator, config.discriminator_learning_rate, config)
    weight = config.adversarial_weight
    for source in _crops(store, config.batch_size, config.source_side, device):
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


def _encdec_gan(config: Any, store: Store, device: torch.device, number_format: str) -> Steps:
    """Take a step of the discriminator and several of the generator, as after the pixel-only phase."""
    made = networks("encdec_gan", config, device)
    generator, discriminator = made.generator, made.discriminator
    twice = config.penalty_weight > 0  # differentiated: strides that PyTorch's fused Adam misreads on CPUs
    adam_g = _adam(generator, config.learning_rate, config)
    adam_d = _adam(discriminator, config.discriminator_learning_rate, config, fused=not twice)
    for lr, hr in _pairs(config, store, device):
        with autocast(number_format, device):
            sr = generator(lr)
            noisy_sr, noisy_hr = (x + config.judge_noise * torch.randn_like(hr) for x in (sr.detach(), hr))
            real, fake = discriminator(noisy_hr), discriminator(noisy_sr)
            loss_d = bce(real, torch.full_like(real, config.real_label)) + bce(fake, torch.zeros_like(fake))
        if twice:
            loss_d = loss_d + config.penalty_weight * _penalty(discriminator, noisy_hr, noisy_sr)
        _step(adam_d, loss_d)
        for repetition in range(config.generator_steps):
            with autocast(number_format, device):
                sr = generator(lr) if repetition else sr
                fake = discriminator(sr + config.judge_noise * torch.randn_like(hr))
                loss_g = mse_loss(sr.float(), hr) + config.adversarial_weight * bce(fake, torch.ones_like(fake))
            _step(adam_g, loss_g)
        yield


def _esrgan(config: Any, store: Store, device: torch.device, number_format: str) -> Steps:
    """Take a step of the generator, then one of the relativistic discriminator; one pass over hr serves both."""
    made = networks("esrgan", config, device)
    generator, discriminator, vgg = made.generator, made.discriminator, made.vgg
    adam_g = _adam(generator, config.learning_rate, config)
    adam_d = _adam(discriminator, config.discriminator_learning_rate, config)

    def relativistic(real: Tensor, fake: Tensor) -> Tensor:
        above, below = real - fake.mean(), fake - real.mean()
        return bce(above, torch.ones_like(above)) + bce(below, torch.zeros_like(below))

    for lr, hr in _pairs(config, store, device):
        with autocast(number_format, device):
            sr, real = generator(lr), discriminator(hr)
            loss_g = config.pixel_weight * l1_loss(sr.float(), hr)
            loss_g = loss_g + config.adversarial_weight * relativistic(discriminator(sr), real.detach())
            if vgg is not None:
                loss_g = loss_g + config.perceptual_weight * _feature_distance(vgg, sr, hr, l1_loss)
        _step(adam_g, loss_g)
        with autocast(number_format, device):
            loss_d = relativistic(real, discriminator(sr.detach()))
        _step(adam_d, loss_d)
        yield


def _srgan_gp(config: Any, store: Store, device: torch.device, number_format: str) -> Steps:
    """Take a step of the critic under its penalty, then the generator's."""
    made = networks("srgan_gp", config, device)
    generator, critic, vgg = made.generator, made.critic, made.vgg
    adam_g = _adam(generator, config.learning_rate, config)
    adam_d = _adam(critic, config.critic_learning_rate, config, fused=False)
    for lr, hr in _pairs(config, store, device):
        with autocast(number_format, device):
            sr = generator(lr)
            loss_d = critic(sr.detach()).mean() - critic(hr).mean()
        _step(adam_d, loss_d + config.penalty_weight * _penalty(critic, hr, sr))
        for repetition in range(config.generator_steps):
            with autocast(number_format, device):
                sr = generator(lr) if repetition else sr
                loss_g = config.pixel_weight * l1_loss(sr.float(), hr) - config.adversarial_weight * critic(sr).mean()
                if vgg is not None:
                    loss_g = loss_g + config.perceptual_weight * _feature_distance(vgg, sr, hr, mse_loss)
            _step(adam_g, loss_g)
        yield


def _penalty(judge: nn.Module, hr: Tensor, sr: Tensor) -> Tensor:
    """Return the mean squared deviation of the judge's slope from 1 on mixtures, in float32."""
    share = torch.rand(len(hr), 1, 1, 1, device=hr.device)
    mixture = (share * hr + (1 - share) * sr.detach().float()).requires_grad_()
    (gradient,) = torch.autograd.grad(judge(mixture).sum(), mixture, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def _feature_distance(vgg: nn.Module, sr: Tensor, hr: Tensor, distance: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    with torch.no_grad():
        true = vgg(hr)
    return torch.stack([distance(a.float(), b.float()) for a, b in zip(vgg(sr), true, strict=True)]).sum()


LOOPS: dict[str, Callable[..., Steps]] = {
    "encdec_gan": _encdec_gan,
    "esrgan": _esrgan,
    "pixelshuffle": _pixel_loss("pixelshuffle"),
    "srez": _srez,
    "srgan_gp": _srgan_gp,
    "srresnet": _pixel_loss("srresnet"),
}
