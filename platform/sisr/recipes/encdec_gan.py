"""Encoder-decoder generator in stabilised GAN training, 4x on photographs.

The generator learns by MSE alone first; then judge and generator alternate, the generator several times per judge step,
with a smoothed real label, fading noise on all that the judge sees, and an optional gradient penalty.

Source: "Using Generative Adversarial Networks (GANs) for upscaling Low-res images", a public notebook on DIV2K. It
gives the method and few numbers; those that are ours say so in `Config`.
The gradient penalty looks at each image alone, batch normalisation at all of them: WGAN-GP's authors advise against
having both, and the source has both. `discriminator_norm=none` is the choice that theory asks for.

Command: sisr train encdec_gan --data div2k:PATH

Measured: VGG-19 relu3_1 distance 5.51 (bicubic 6.66), 21.45 dB PSNR-Y (24.31) on 16 held-out faces after 7,000 steps of
64 px crops on 2,984 half-size CelebA faces, pretrain_steps=2000, 48 minutes on one busy CPU core in bf16. With
settings that a sweep found (docs/sweeps.md) 4.02 (bicubic 6.30) on 100 other faces after 2,500 steps. DIV2K was not
run.
"""

from typing import ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor
from torch.optim import Adam

from sisr.losses import adversarial
from sisr.nets.encdec import EncoderDecoder, StridedDiscriminator
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
    """Settings of the encoder-decoder and its discriminator."""

    scale: Literal[4] = Field(4, description="hr side / lr side; fixed by the network; ours")
    batch_size: int = Field(16, ge=1, description="examples per step over all workers; ours")
    steps: int = Field(100_000, ge=1, description="length of the run, pixel-only phase included; ours")
    pretrain_steps: int = Field(20_000, ge=0, description="steps of the pixel-only phase at the start; ours")
    hr_crop: int = Field(128, ge=16, multiple_of=16, description="px, side of an hr example; ours")
    degradation: Degradation | None = Field(None, description="how lr is made; null: bicubic")
    learning_rate: float = Field(1e-4, gt=0, description="of the generator's Adam")
    discriminator_learning_rate: float = Field(1e-4, gt=0, description="of the discriminator's Adam")
    beta1: float = Field(0.5, ge=0, lt=1, description="of both Adams")
    beta2: float = Field(0.999, ge=0, lt=1, description="of both Adams")
    adversarial_weight: float = Field(1e-3, ge=0, description="of cross-entropy beside MSE's 1; ours")
    real_label: float = Field(0.9, gt=0.5, le=1, description="probability that real images are asked to get; ours")
    judge_noise: float = Field(0.05, ge=0, description="standard deviation on the judge's input, falling to 0; ours")
    generator_steps: int = Field(2, ge=1, description="generator steps per discriminator step; ours")
    penalty_weight: float = Field(0.0, ge=0, description="of the gradient penalty; the usual weight is 10; 0: off")
    discriminator_norm: Literal["batch", "none"] = Field("batch", description="normalisation in the discriminator")
    num_features: int = Field(64, ge=2, multiple_of=2, description="width of the generator's first layers; ours")
    discriminator_features: int = Field(64, ge=1, description="width of the discriminator's first layer; ours")

    presets: ClassVar[dict[str, Preset]] = {
        "cpu": Preset(
            "half as wide, small crops: 0.05 GiB, and 0.3 s a step on one core with AMX, in bf16",
            {
                "num_features": 32,
                "discriminator_features": 32,
                "hr_crop": 64,
                "pretrain_steps": 3000,
                "steps": 10_000,
            },
        ),
        "8gb": Preset("the defaults; counted 0.3 GiB in fp32, not measured on a GPU"),
        "24gb": Preset("the defaults; counted 0.3 GiB in fp32, not measured on a GPU"),
    }

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.pretrain_steps >= self.steps:
            raise ValueError(
                f"pretrain_steps must be less than steps {self.steps}, got {self.pretrain_steps}: of so short a run it "
                f"may be {self.steps // 5}"
            )
        return self


def generator(config: Config) -> EncoderDecoder:
    return EncoderDecoder(config.num_features)


class Recipe:
    """A generator that learns by pixels first, and a discriminator that joins later."""

    roles = Roles(judges=(Judge("discriminator", "logits"),))

    def __init__(self, config: Config) -> None:
        c = self.config = config
        self.crop = Crop(side=c.hr_crop)
        self.generator = generator(c)
        self.discriminator = StridedDiscriminator(c.discriminator_features, c.discriminator_norm)
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
        set_learning_rate(self.generator_optimizer, c.learning_rate)
        set_learning_rate(self.discriminator_optimizer, c.discriminator_learning_rate)
        rate = {"learning_rate": torch.tensor(c.learning_rate)}
        if step < c.pretrain_steps:
            return self.pixel_step(lr, hr, update) | rate
        sigma = c.judge_noise * (1.0 - (step - c.pretrain_steps) / (c.steps - c.pretrain_steps))
        noise = [sigma * draws.normal(f"noise_{i}", *hr.shape[1:]).to(hr) for i in range(2 + c.generator_steps)]

        sr = self.generator(lr)
        judged = self.discriminator_step(sr.detach() + noise[0], hr + noise[1], draws.uniform("mix"), update)

        for repetition in range(c.generator_steps):
            sr = self.generator(lr) if repetition else sr
            pixel_loss = pixel.mse(sr, hr)
            adversarial_loss = adversarial.bce_generator(self.discriminator(sr + noise[2 + repetition]))
            total = pixel_loss + c.adversarial_weight * adversarial_loss
            update(self.generator_optimizer, total)

        logged = {"total": total, "pixel": pixel_loss, "adversarial": adversarial_loss}
        return {f"generator/{name}": loss.detach() for name, loss in logged.items()} | judged | rate

    def pixel_step(self, lr: Tensor, hr: Tensor, update: Update) -> dict[str, Tensor]:
        """Step the generator along MSE alone."""
        loss = pixel.mse(self.generator(lr), hr)
        update(self.generator_optimizer, loss)
        return {"generator/total": loss.detach(), "generator/pixel": loss.detach()}

    def discriminator_step(self, fake: Tensor, real: Tensor, mix: Tensor, update: Update) -> dict[str, Tensor]:
        """Step the discriminator: real images should get `real_label`, generated ones 0."""
        c = self.config
        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        loss = adversarial.bce_discriminator(real_logits, fake_logits, c.real_label)
        logged = {"real_logits": real_logits.mean(), "fake_logits": fake_logits.mean()}
        if c.penalty_weight:
            logged["penalty"] = adversarial.wgan_gp(self.discriminator.forward, real, fake, mix)
            loss = loss + c.penalty_weight * logged["penalty"]
        update(self.discriminator_optimizer, loss)
        return {f"discriminator/{name}": value.detach() for name, value in {"total": loss, **logged}.items()}


def tiny() -> Config:
    return Config(
        batch_size=4,
        steps=4,
        pretrain_steps=1,
        hr_crop=32,
        penalty_weight=10.0,
        num_features=4,
        discriminator_features=4,
    )
