"""srez: a DCGAN whose input is the 16x16 image instead of random numbers, 4x on faces.

The generator wants to fool the discriminator and to show, averaged down, what its input shows; this second term speeds
up the first batches and keeps it out of poor local solutions. Both networks step from one forward pass.

Source: David Garcia, "srez", https://github.com/david-gpu/srez; 130,000 batches of 16 (3 hours on a GTX 1080) for the
published picture. What it leaves open is marked "ours" in `Config`.

Command: sisr train srez --data celeba:PATH
For CelebA at half size (89x109): --set hr_crop=64 --set source_side=64 --set box=[8,26,72,72]
For any photographs: --set box=null

Measured: VGG-19 relu3_1 distance 3.05 (bicubic 6.10), 23.09 dB PSNR-Y (bicubic 24.35) on 16 held-out faces after 1,800
steps on 2,984 half-size CelebA faces, 24 minutes on two CPU cores in bf16 (4,450 batches an hour). The 130,000
batches of the published picture were not run.
"""

from typing import ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor
from torch.optim import Adam

from sisr.losses import adversarial, pixel
from sisr.nets.srez import SrezDiscriminator, SrezGenerator
from sisr.recipe import (
    Crop,
    Draws,
    Field,
    Judge,
    Preset,
    Roles,
    Settings,
    Update,
    degradations,
    halving,
    set_learning_rate,
)


class Config(Settings):
    """Settings of srez."""

    scale: Literal[4] = Field(4, description="hr side / lr side; fixed by the network")
    batch_size: int = Field(16, ge=1, description="examples per step over all workers")
    steps: int = Field(130_000, ge=1, description="length of the run: the published picture's")
    hr_crop: int = Field(64, ge=16, multiple_of=4, description="px, side of an hr example")
    source_side: int = Field(128, ge=16, description="px, side of the window averaged to it; a multiple of hr_crop")
    box: tuple[int, int, int, int] | None = Field(
        (17, 52, 144, 144), description="px (x, y, width, height) that windows stay in; null: the whole image"
    )
    learning_rate: float = Field(2e-4, gt=0, description="of the generator's Adam")
    discriminator_learning_rate: float = Field(2e-4, gt=0, description="of the discriminator's Adam")
    beta1: float = Field(0.5, ge=0, lt=1, description="of both Adams")
    beta2: float = Field(0.999, ge=0, lt=1, description="of both Adams")
    halve_every: int = Field(5000, ge=1, description="steps after which both learning rates are halved, repeatedly")
    adversarial_weight: float = Field(0.1, ge=0, le=1, description="of the adversarial term; the pixel term has 1 - it")
    input_noise: float = Field(0.03, ge=0, description="standard deviation of noise on the generator's input")
    saturation: float = Field(0.05, ge=0, lt=1, description="greatest change of colour saturation, as a share")
    brightness: float = Field(0.05, ge=0, lt=1, description="greatest change of brightness, in units of white")
    contrast: float = Field(0.05, ge=0, lt=1, description="greatest change of contrast, as a share")
    inference_statistics: Literal["running", "batch"] = Field(
        "running", description="what batch norm uses outside training; the original used the batch's; ours: running"
    )
    generator_features: tuple[int, int, int] = Field((256, 128, 96), description="width at 1x, 2x and 4x")
    discriminator_features: int = Field(64, ge=1, description="width of the first layer; the next three double it")

    presets: ClassVar[dict[str, Preset]] = {
        "photos": Preset(
            "photographs that are no aligned faces: windows anywhere, not averaged", {"box": None, "source_side": 64}
        ),
        "cpu": Preset(
            "photographs on a CPU, a quarter of the width: 0.06 GiB, and 0.2 s a step on one core with AMX, in bf16",
            {
                "box": None,
                "source_side": 64,
                "generator_features": (64, 32, 24),
                "discriminator_features": 16,
                "steps": 10_000,
            },
        ),
        "8gb": Preset("published size, on faces; counted 0.4 GiB in fp32, not measured on a GPU"),
        "24gb": Preset("published size, on faces; counted 0.4 GiB in fp32, not measured on a GPU"),
    }

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.source_side % self.hr_crop:
            raise ValueError(f"source_side must be a multiple of hr_crop {self.hr_crop}, got {self.source_side}")
        if self.box and min(self.box[2:]) < self.source_side:
            raise ValueError(f"box must hold a window of source_side {self.source_side} px, got {self.box}")
        return self


def generator(config: Config) -> SrezGenerator:
    return SrezGenerator(config.generator_features, config.inference_statistics == "batch")


class Recipe:
    """A generator and a discriminator that step together."""

    roles = Roles(judges=(Judge("discriminator", "logits"),))

    def __init__(self, config: Config) -> None:
        c = self.config = config
        self.crop = Crop(
            side=c.hr_crop,
            source_side=c.source_side,
            box=c.box,
            saturation=c.saturation,
            brightness=c.brightness,
            contrast=c.contrast,
        )
        self.generator = generator(c)
        self.discriminator = SrezDiscriminator(c.discriminator_features)
        betas = (c.beta1, c.beta2)
        self.generator_optimizer = Adam(self.generator.parameters(), lr=c.learning_rate, betas=betas, fused=True)
        self.discriminator_optimizer = Adam(
            self.discriminator.parameters(), lr=c.discriminator_learning_rate, betas=betas, fused=True
        )

    def degrade(self, hr: Tensor, draws: Draws) -> Tensor:
        return degradations.area(hr, self.config.scale)

    def train_step(self, lr: Tensor, hr: Tensor, draws: Draws, step: int, update: Update) -> dict[str, Tensor]:
        c = self.config
        rate = halving(step, c.halve_every)
        set_learning_rate(self.generator_optimizer, c.learning_rate * rate)
        set_learning_rate(self.discriminator_optimizer, c.discriminator_learning_rate * rate)

        sr = self.generator(lr + c.input_noise * draws.normal("input_noise", *lr.shape[1:]).to(lr))
        real_logits = self.discriminator(hr)
        fake_logits = self.discriminator(sr)

        pixel_loss = pixel.downscale_consistency(sr, lr, c.scale)
        adversarial_loss = adversarial.bce_generator(fake_logits)
        generator_loss = (1.0 - c.adversarial_weight) * pixel_loss + c.adversarial_weight * adversarial_loss
        discriminator_loss = adversarial.bce_discriminator(real_logits, fake_logits)

        update(self.generator_optimizer, generator_loss, retain_graph=True)
        update(self.discriminator_optimizer, discriminator_loss)

        return {
            "generator/total": generator_loss.detach(),
            "generator/pixel": pixel_loss.detach(),
            "generator/adversarial": adversarial_loss.detach(),
            "discriminator/total": discriminator_loss.detach(),
            "discriminator/real_logits": real_logits.detach().mean(),
            "discriminator/fake_logits": fake_logits.detach().mean(),
            "learning_rate": torch.tensor(c.learning_rate * rate),
        }


def tiny() -> Config:
    return Config(
        batch_size=4,
        steps=4,
        hr_crop=32,
        source_side=64,
        box=None,
        halve_every=2,
        generator_features=(8, 6, 4),
        discriminator_features=4,
    )
