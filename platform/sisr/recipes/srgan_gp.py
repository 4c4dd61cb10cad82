"""Residual-in-residual dense generator against a Wasserstein critic with gradient penalty, 4x on photographs.

The critic of eight plain convolutions steps first, held near slope 1 on mixtures of real and generated images; the
generator then lowers L1, the distance of deep VGG-19 features and the critic's verdict. The penalty is computed in
float32 under any precision.

Source: "SR-GAN", a public PyTorch project: 12,434 images (DF2K-OST), batch 16, 131 epochs, mixed precision. It feeds
[0, 1] images to VGG-19 without ImageNet's normalisation; ours normalises unless told not to.

Command: sisr train srgan_gp --data div2k:PATH
The ImageNet weights are downloaded at first use; without a network: --set perceptual=FILE or --set perceptual=none

Measured: reduced (3 blocks, 32 channels, growth 16, critic 16/128, relu3_1, 64 px crops, learning_rate=4e-4): relu3_1
distance 2.00 (bicubic 4.58), 25.35 dB PSNR-Y (25.06) on 16 held-out photographs after 6,000 steps on BSDS500, an hour
on one busy CPU core in bf16. The full size was not run.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Adam

from sisr.losses import adversarial, perceptual
from sisr.nets.judges import ConvCritic
from sisr.nets.rrdb import RRDBNet
from sisr.recipe import (
    Crop,
    Degradation,
    Draws,
    Field,
    Judge,
    Preset,
    Roles,
    Settings,
    Update,
    degradations,
    pixel,
    set_learning_rate,
)


class Config(Settings):
    """Settings of the RRDB generator and its critic."""

    scale: Literal[4] = Field(4, description="hr side / lr side; fixed by the network")
    batch_size: int = Field(16, ge=1, description="examples per step over all workers")
    steps: int = Field(102_000, ge=1, description="length of the run: 131 epochs of 12,434 images")
    hr_crop: int = Field(128, ge=16, multiple_of=4, description="px, side of an hr example")
    degradation: Degradation | None = Field(None, description="how lr is made; null: bicubic")
    rotate_degrees: float = Field(90.0, ge=0, le=360, description="crops are rotated by an angle uniform in 0 .. this")
    learning_rate: float = Field(1e-4, gt=0, description="of the generator's Adam")
    critic_learning_rate: float = Field(1e-4, gt=0, description="of the critic's Adam")
    beta1: float = Field(0.0, ge=0, lt=1, description="of both Adams")
    beta2: float = Field(0.9, ge=0, lt=1, description="of both Adams")
    pixel_weight: float = Field(1e-2, ge=0, description="of L1")
    perceptual_weight: float = Field(1.0, ge=0, description="of the squared distance of VGG-19 features")
    adversarial_weight: float = Field(5e-3, ge=0, description="of the critic's verdict")
    penalty_weight: float = Field(10.0, ge=0, description="lambda of the gradient penalty")
    generator_steps: int = Field(1, ge=1, description="generator steps per critic step")
    perceptual: str = Field("imagenet", description="VGG-19 weights: imagenet, random, a file's path; none: no VGG-19")
    perceptual_layers: tuple[str, ...] = Field(("relu5_4",), min_length=1, description="of VGG-19, such as relu5_4")
    perceptual_normalise: bool = Field(True, description="bring images to ImageNet's mean and deviation; ours")
    num_blocks: int = Field(23, ge=1, description="RRDBs of the generator")
    num_features: int = Field(64, ge=1, description="channels of the generator")
    growth: int = Field(32, ge=1, description="channels that each dense convolution adds")
    critic_features: int = Field(64, ge=1, description="width of the critic's first convolutions")
    critic_hidden: int = Field(1024, ge=1, description="width of the critic's fully connected layer")

    presets: ClassVar[dict[str, Preset]] = {
        "cpu": Preset(
            "3 blocks of half the width, small crops: 0.3 GiB, and 0.7 s a step on one core with AMX, in bf16",
            {
                "num_blocks": 3,
                "num_features": 32,
                "growth": 16,
                "critic_features": 16,
                "critic_hidden": 128,
                "hr_crop": 64,
                "batch_size": 8,
                "learning_rate": 4e-4,
                "steps": 6000,
            },
        ),
        "8gb": Preset("published size; counted 3.1 GiB in fp32, not measured on a GPU", options={"accumulate": 2}),
        "24gb": Preset("published size; counted 5.4 GiB in fp32, not measured on a GPU"),
    }


def generator(config: Config) -> RRDBNet:
    return RRDBNet(config.num_features, config.num_blocks, config.growth)


class Recipe:
    """A critic that steps first and a generator that follows."""

    roles = Roles(judges=(Judge("critic", "scores"),))

    def __init__(self, config: Config) -> None:
        c = self.config = config
        self.crop = Crop(side=c.hr_crop, rotate_degrees=c.rotate_degrees)
        self.generator = generator(c)
        self.critic = ConvCritic(c.critic_features, c.critic_hidden)
        self.vgg = None
        if c.perceptual != "none":
            self.vgg = perceptual.Vgg19(c.perceptual_layers, c.perceptual, c.perceptual_normalise)
        betas = (c.beta1, c.beta2)
        self.generator_optimizer = Adam(self.generator.parameters(), lr=c.learning_rate, betas=betas, fused=True)
        self.critic_optimizer = Adam(self.critic.parameters(), lr=c.critic_learning_rate, betas=betas, fused=True)

    def degrade(self, hr: Tensor, draws: Draws) -> Tensor:
        chosen = self.config.degradation or degradations.Bicubic()
        return degradations.degrade(chosen, hr, self.config.scale, draws)

    def train_step(self, lr: Tensor, hr: Tensor, draws: Draws, step: int, update: Update) -> dict[str, Tensor]:
        c = self.config
        set_learning_rate(self.generator_optimizer, c.learning_rate)
        set_learning_rate(self.critic_optimizer, c.critic_learning_rate)

        sr = self.generator(lr)
        real_scores, fake_scores = self.critic(hr), self.critic(sr.detach())
        penalty = adversarial.wgan_gp(self.critic.forward, hr, sr, draws.uniform("mix"))
        critic_loss = adversarial.wasserstein_critic(real_scores, fake_scores) + c.penalty_weight * penalty
        update(self.critic_optimizer, critic_loss)

        for repetition in range(c.generator_steps):
            sr = self.generator(lr) if repetition else sr
            losses = self.generator_losses(sr, hr)
            update(self.generator_optimizer, losses["generator/total"])

        return {name: loss.detach() for name, loss in losses.items()} | {
            "critic/total": critic_loss.detach(),
            "critic/penalty": penalty.detach(),
            "critic/real_scores": real_scores.detach().mean(),
            "critic/fake_scores": fake_scores.detach().mean(),
            "learning_rate": torch.tensor(c.learning_rate),
        }

    def generator_losses(self, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """Return each term of the generator's loss, unweighted, and their weighted total."""
        c = self.config
        terms = {
            "pixel": (c.pixel_weight, pixel.l1(sr, hr)),
            "adversarial": (c.adversarial_weight, adversarial.wasserstein_generator(self.critic(sr))),
        }
        if self.vgg is not None:
            terms["perceptual"] = (c.perceptual_weight, perceptual.feature_mse(self.vgg(sr), self.vgg.constant(hr)))
        return adversarial.weighted("generator", terms)


def tiny() -> Config:
    return Config(
        batch_size=2,
        steps=4,
        hr_crop=32,
        generator_steps=2,
        perceptual="random",
        perceptual_layers=("relu1_2", "conv2_1"),
        num_blocks=1,
        num_features=8,
        growth=4,
        critic_features=4,
        critic_hidden=8,
    )
