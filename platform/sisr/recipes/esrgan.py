"""ESRGAN: a dense residual generator against a judge that compares real with generated images, 4x on photographs.

The generator lowers the distance of deep VGG-19 features, taken before their ReLU, a relativistic adversarial loss and
a little L1. The judge estimates whether a real image looks more real than the average generated one, so that the
generator learns from real images, too.

Source: Wang et al., "ESRGAN", 2018, https://arxiv.org/abs/1809.00219, and its authors' BasicSR: DIV2K, batch 16,
400,000 steps, a moving average of the generator. They start from an RRDB network trained for PSNR over 1,000,000 steps:
`--init` takes such weights, of a run or a file, and `pretrain_steps` is that phase within the run. There lr images are
cut from lr files; here each is made from its hr crop.

Command: sisr train esrgan --data div2k:PATH --init RRDB_WEIGHTS.pth
The ImageNet weights are downloaded at first use; without a network: --set perceptual=FILE or --set perceptual=none

Measured: --preset cpu, 6,000 steps on BSDS500, 14 minutes on a CPU core in bf16: VGG-19 relu3_1 distance 2.50 (bicubic
3.99), 24.96 dB PSNR-Y (25.73) on 16 held-out photographs; see docs/recipes.md. The full size was not run.
"""

from typing import ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor
from torch.optim import Adam

from sisr.losses import adversarial, perceptual
from sisr.nets.judges import VGGStyleDiscriminator
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
    """Settings of ESRGAN."""

    scale: Literal[4] = Field(4, description="hr side / lr side; fixed by the network")
    batch_size: int = Field(16, ge=1, description="examples per step over all workers")
    steps: int = Field(400_000, ge=1, description="length of the run, pixel-only phase included")
    pretrain_steps: int = Field(0, ge=0, description="steps of L1 alone at the start; ours: 0, the authors' 1,000,000")
    hr_crop: Literal[32, 64, 128, 256] = Field(128, description="px, side of an hr example; less than 128: ours")
    degradation: Degradation | None = Field(None, description="how lr is made; null: bicubic")
    turn: bool = Field(True, description="turn crops by 90 degrees and upside down at random")
    learning_rate: float = Field(1e-4, gt=0, description="of the generator's Adam")
    discriminator_learning_rate: float = Field(1e-4, gt=0, description="of the discriminator's Adam")
    pretrain_learning_rate: float = Field(2e-4, gt=0, description="of the pixel-only phase; ours: constant")
    halve_at: tuple[int, ...] = Field(
        (50_000, 100_000, 200_000, 300_000), description="steps after the pixel-only phase that halve both rates"
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="of both Adams")
    beta2: float = Field(0.99, ge=0, lt=1, description="of both Adams")
    pixel_weight: float = Field(1e-2, ge=0, description="eta, of L1")
    perceptual_weight: float = Field(1.0, ge=0, description="of the absolute distance of VGG-19 features")
    adversarial_weight: float = Field(
        5e-3, ge=0, description="lambda, of the sum of both cross-entropies; BasicSR halves the sum: 2.5e-3 is its 5e-3"
    )
    perceptual: str = Field("imagenet", description="VGG-19 weights: imagenet, random, a file's path; none: no VGG-19")
    perceptual_layers: tuple[str, ...] = Field(("conv5_4",), min_length=1, description="of VGG-19, such as conv5_4")
    num_blocks: int = Field(23, ge=1, description="RRDBs of the generator")
    num_features: int = Field(64, ge=1, description="channels of the generator")
    growth: int = Field(32, ge=1, description="channels that each dense convolution adds")
    discriminator_features: int = Field(64, ge=1, description="width of the discriminator's first convolutions")

    presets: ClassVar[dict[str, Preset]] = {
        "cpu": Preset(
            "3 blocks of half the width, small crops: 0.3 GiB, and 0.6 s a step on one core with AMX, in bf16",
            {
                "num_blocks": 3,
                "num_features": 32,
                "growth": 16,
                "discriminator_features": 16,
                "hr_crop": 64,
                "batch_size": 8,
                "pretrain_steps": 2000,
                "steps": 6000,
            },
        ),
        "8gb": Preset("published size; counted 4.1 GiB in fp32, not measured on a GPU", options={"accumulate": 2}),
        "24gb": Preset("published size; counted 7.6 GiB in fp32, not measured on a GPU"),
    }

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.pretrain_steps >= self.steps:
            raise ValueError(
                f"pretrain_steps must be less than steps {self.steps}, got {self.pretrain_steps}: of so short a run it "
                f"may be {self.steps // 5}"
            )
        return self


def generator(config: Config) -> RRDBNet:
    return RRDBNet(config.num_features, config.num_blocks, config.growth)


class Recipe:
    """A generator that steps first and a relativistic discriminator that follows."""

    roles = Roles(judges=(Judge("discriminator", "logits"),))

    def __init__(self, config: Config) -> None:
        c = self.config = config
        self.crop = Crop(side=c.hr_crop, turn=c.turn)
        self.generator = generator(c)
        self.discriminator = VGGStyleDiscriminator(c.discriminator_features, c.hr_crop)
        self.vgg = None if c.perceptual == "none" else perceptual.Vgg19(c.perceptual_layers, c.perceptual)
        betas = (c.beta1, c.beta2)
        self.generator_optimizer = Adam(self.generator.parameters(), lr=c.learning_rate, betas=betas, fused=True)
        self.discriminator_optimizer = Adam(
            self.discriminator.parameters(), lr=c.discriminator_learning_rate, betas=betas, fused=True
        )

    def degrade(self, hr: Tensor, draws: Draws) -> Tensor:
        chosen = self.config.degradation or degradations.Bicubic()
        return degradations.degrade(chosen, hr, self.config.scale, draws)

    def train_step(self, lr: Tensor, hr: Tensor, draws: Draws, step: int, update: Update) -> dict[str, Tensor]:
        c = self.config
        if step < c.pretrain_steps:
            return self.pixel_step(lr, hr, update)
        factor = 0.5 ** sum(step - c.pretrain_steps >= at for at in c.halve_at)
        set_learning_rate(self.generator_optimizer, c.learning_rate * factor)
        set_learning_rate(self.discriminator_optimizer, c.discriminator_learning_rate * factor)

        # One pass over hr serves both: the generator's step does not change the discriminator.
        sr, real_logits = self.generator(lr), self.discriminator(hr)
        losses = self.generator_losses(sr, hr, real_logits.detach())
        update(self.generator_optimizer, losses["generator/total"])

        fake_logits = self.discriminator(sr.detach())
        discriminator_loss = adversarial.relativistic_average_discriminator(real_logits, fake_logits)
        update(self.discriminator_optimizer, discriminator_loss)

        return {name: loss.detach() for name, loss in losses.items()} | {
            "discriminator/total": discriminator_loss.detach(),
            "discriminator/real_logits": real_logits.detach().mean(),
            "discriminator/fake_logits": fake_logits.detach().mean(),
            "learning_rate": torch.tensor(c.learning_rate * factor),
        }

    def pixel_step(self, lr: Tensor, hr: Tensor, update: Update) -> dict[str, Tensor]:
        """Step the generator along L1 alone."""
        rate = self.config.pretrain_learning_rate
        set_learning_rate(self.generator_optimizer, rate)
        loss = pixel.l1(self.generator(lr), hr)
        update(self.generator_optimizer, loss)
        logged = loss.detach()
        return {"generator/total": logged, "generator/pixel": logged, "learning_rate": torch.tensor(rate)}

    def generator_losses(self, sr: Tensor, hr: Tensor, real_logits: Tensor) -> dict[str, Tensor]:
        """Return each term of the generator's loss (equation 3), unweighted, and their weighted total."""
        c = self.config
        adversarial_loss = adversarial.relativistic_average_generator(real_logits, self.discriminator(sr))
        terms = {
            "pixel": (c.pixel_weight, pixel.l1(sr, hr)),
            "adversarial": (c.adversarial_weight, adversarial_loss),
        }
        if self.vgg is not None:
            terms["perceptual"] = (c.perceptual_weight, perceptual.feature_l1(self.vgg(sr), self.vgg.constant(hr)))
        return adversarial.weighted("generator", terms)


def tiny() -> Config:
    return Config(
        batch_size=4,
        steps=4,
        pretrain_steps=1,
        hr_crop=32,
        halve_at=(1, 2),
        perceptual="random",
        perceptual_layers=("conv1_2", "conv2_1"),
        num_blocks=1,
        num_features=8,
        growth=4,
        discriminator_features=4,
    )
