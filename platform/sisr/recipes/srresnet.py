"""SRResNet without batch normalisation: residual blocks, sub-pixel convolution, one pixel loss; the field's yardstick.

Sixteen residual blocks work at low resolution and two sub-pixel convolutions upscale; only what the bilinear upscaling
lacks is learnt. It aims at PSNR and gives smooth images. 1,517,571 parameters at 4x.

Source: Ledig et al., "Photo-Realistic Single Image Super-Resolution ...", 2017, https://arxiv.org/abs/1609.04802, as
modified and trained in BasicSR ("MSRResNet"): DIV2K, batch 16, 1,000,000 steps, L1, a moving average of the generator.
The paper's own loss is MSE: --set pixel_loss=mse. There lr images are cut from lr files; here each is made from its hr
crop.

Command: sisr train srresnet --data div2k:PATH

Measured: --preset cpu learning_rate=5e-4, 9,000 steps on BSDS500, 9 minutes on a CPU core in bf16: 27.04 dB PSNR-Y
(bicubic 25.73), VGG-19 relu3_1 distance 2.28 (3.99) on 16 held-out photographs; see docs/recipes.md. The full size was
not run.
"""

from typing import ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor
from torch.optim import Adam

from sisr.nets.srresnet import MSRResNet
from sisr.recipe import (
    Crop,
    Degradation,
    Draws,
    Field,
    Preset,
    Settings,
    Update,
    cosine,
    degradations,
    pixel,
    set_learning_rate,
)

PIXEL_LOSSES = {"l1": pixel.l1, "mse": pixel.mse}


class Config(Settings):
    """Settings of SRResNet."""

    scale: Literal[2, 3, 4] = Field(4, description="hr side / lr side")
    batch_size: int = Field(16, ge=1, description="examples per step over all workers")
    steps: int = Field(1_000_000, ge=1, description="length of the run")
    hr_crop: int = Field(128, ge=8, description="px, side of an hr example; a multiple of scale")
    degradation: Degradation | None = Field(None, description="how lr is made; null: bicubic")
    turn: bool = Field(True, description="turn crops by 90 degrees and upside down at random")
    pixel_loss: Literal["l1", "mse"] = Field("l1", description="l1, as BasicSR, or mse, as the paper")
    learning_rate: float = Field(2e-4, gt=0, description="of Adam, at the start of each cycle")
    final_learning_rate: float = Field(1e-7, ge=0, description="at the end of each cycle")
    num_cycles: int = Field(4, ge=1, description="equal parts of the run, in each of which the rate falls as a cosine")
    beta1: float = Field(0.9, ge=0, lt=1, description="of Adam")
    beta2: float = Field(0.99, ge=0, lt=1, description="of Adam")
    num_blocks: int = Field(16, ge=0, description="residual blocks")
    num_features: int = Field(64, ge=1, description="channels")

    presets: ClassVar[dict[str, Preset]] = {
        "cpu": Preset(
            "4 blocks of half the width, small crops: 0.02 GiB, and 0.1 s a step on one core with AMX, in bf16",
            {"num_blocks": 4, "num_features": 32, "hr_crop": 64, "num_cycles": 1, "steps": 20_000},
        ),
        "8gb": Preset("published size; counted 0.5 GiB in fp32, not measured on a GPU"),
        "24gb": Preset("published size; counted 0.5 GiB in fp32, not measured on a GPU"),
    }

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        if self.hr_crop % self.scale:
            raise ValueError(f"hr_crop must be a multiple of scale {self.scale}, got {self.hr_crop}")
        if self.num_cycles > self.steps:
            raise ValueError(f"num_cycles must be at most steps {self.steps}, got {self.num_cycles}")
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(f"final_learning_rate must be at most learning_rate, got {self.final_learning_rate}")
        return self


def generator(config: Config) -> MSRResNet:
    return MSRResNet(config.num_features, config.num_blocks, config.scale)


class Recipe:
    """One network, one loss."""

    def __init__(self, config: Config) -> None:
        c = self.config = config
        self.crop = Crop(side=c.hr_crop, turn=c.turn)
        self.generator = generator(c)
        betas = (c.beta1, c.beta2)
        self.generator_optimizer = Adam(self.generator.parameters(), lr=c.learning_rate, betas=betas, fused=True)

    def degrade(self, hr: Tensor, draws: Draws) -> Tensor:
        chosen = self.config.degradation or degradations.Bicubic()
        return degradations.degrade(chosen, hr, self.config.scale, draws)

    def train_step(self, lr: Tensor, hr: Tensor, draws: Draws, step: int, update: Update) -> dict[str, Tensor]:
        rate = self.learning_rate(step)
        set_learning_rate(self.generator_optimizer, rate)

        loss = PIXEL_LOSSES[self.config.pixel_loss](self.generator(lr), hr)
        update(self.generator_optimizer, loss)

        logged = loss.detach()
        return {"generator/total": logged, "generator/pixel": logged, "learning_rate": torch.tensor(rate)}

    def learning_rate(self, step: int) -> float:
        """Return the rate of a step: half a cosine in each cycle."""
        c = self.config
        cycle_steps = -(-c.steps // c.num_cycles)
        factor = cosine(step % cycle_steps, cycle_steps)
        return c.final_learning_rate + (c.learning_rate - c.final_learning_rate) * factor


def tiny() -> Config:
    return Config(batch_size=2, steps=4, hr_crop=16, num_cycles=2, num_blocks=1, num_features=8)
