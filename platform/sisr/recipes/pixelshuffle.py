"""Light super-resolution without a judge: sub-pixel convolution, group-normalised residual blocks, L1.

A 5x5 entry block and one expanding convolution work at low resolution, PixelShuffle makes 12 channels of the full size
out of them, and seven residual blocks refine these; L1 instead of MSE gives sharper edges. 134,199 parameters. Pairs
are made on the fly by gaussian blur and bicubic resizing; the defaults are the published 128 to 512 pixels on faces.

Source: "Super-Resolution Prototype (PyTorch)", a public notebook on CelebA, trained on two GPUs. What its description
leaves open is marked "ours" in `Config`.

Command: sisr train pixelshuffle --data celeba:PATH

Measured: 30.75 dB PSNR-Y, 0.8737 SSIM-Y on Set5 (rgb8; bicubic 28.43, 0.8111) after 12,000 steps on the 199 photographs
of BSDS500_train200, 27 minutes on two CPU cores in bf16 (119 images/s), with hr_crop=96 blur_sigma_max=0
learning_rate=1e-3 turn=true. Not measured on CelebA at 512 pixels.
"""

from typing import ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor
from torch.optim import Adam

from sisr.nets.pixelshuffle import PixelShuffleNet
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


class Config(Settings):
    """Settings of the light PixelShuffle network."""

    scale: int = Field(4, ge=2, le=8, description="hr side / lr side")
    batch_size: int = Field(16, ge=1, description="examples per step over all workers; ours: 8 on each of two GPUs")
    steps: int = Field(100_000, ge=1, description="length of the run; ours")
    hr_crop: int = Field(512, ge=8, description="px, side of an hr example; a multiple of scale")
    learning_rate: float = Field(2e-4, gt=0, description="of Adam; ours")
    beta1: float = Field(0.9, ge=0, lt=1, description="of Adam; ours")
    beta2: float = Field(0.999, ge=0, lt=1, description="of Adam; ours")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="of the learning rate; ours")
    warmup_steps: int = Field(0, ge=0, description="steps of linear rise before the cosine; ours")
    degradation: Degradation | None = Field(None, description="how lr is made; null: the blur below, and bicubic")
    blur_sigma_min: float = Field(0.1, gt=0, description="hr px, least sigma of the gaussian blur; ours")
    blur_sigma_max: float = Field(2.0, ge=0, description="hr px, greatest sigma; 0 switches the blur off; ours")
    turn: bool = Field(False, description="turn crops by 90 degrees and upside down at random, for photographs; ours")
    num_features: int = Field(64, ge=1, description="channels at low resolution")
    num_hr_features: int = Field(12, ge=4, multiple_of=4, description="channels at high resolution; ours")
    num_blocks: int = Field(7, ge=0, description="residual blocks; ours")
    bicubic_skip: bool = Field(True, description="add the bicubic upscaling of the input to the output; ours")
    zero_last: bool = Field(True, description="start with a last layer of zeros; ours")

    presets: ClassVar[dict[str, Preset]] = {
        "photos": Preset("photographs of 96 px and more", {"hr_crop": 96, "blur_sigma_max": 0.0, "turn": True}),
        "cpu": Preset(
            "photographs on a CPU: 27 minutes on two cores, 0.1 GiB, in bf16",
            {"hr_crop": 96, "blur_sigma_max": 0.0, "turn": True, "learning_rate": 1e-3, "steps": 12_000},
        ),
        "8gb": Preset("published size; counted 2.8 GiB in fp32, not measured on a GPU", options={"accumulate": 2}),
        "24gb": Preset("published size; counted 5.6 GiB in fp32, not measured on a GPU"),
    }

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.hr_crop % self.scale:
            raise ValueError(f"hr_crop must be a multiple of scale {self.scale}, got {self.hr_crop}")
        if 0 < self.blur_sigma_max < self.blur_sigma_min:
            raise ValueError(f"blur_sigma_max must be 0 or at least blur_sigma_min, got {self.blur_sigma_max}")
        if self.hr_crop <= 3 * self.blur_sigma_max:
            raise ValueError(f"hr_crop must be larger than 3 blur_sigma_max, got {self.hr_crop}")
        if self.degradation and (self.blur_sigma_min, self.blur_sigma_max) != (0.1, 2.0):
            raise ValueError("blur_sigma_min and blur_sigma_max belong to no other degradation; leave one of both out")
        return self


def generator(config: Config) -> PixelShuffleNet:
    c = config
    return PixelShuffleNet(
        c.scale, c.num_features, c.num_hr_features, c.num_blocks, bicubic_skip=c.bicubic_skip, zero_last=c.zero_last
    )


class Recipe:
    """One network, one loss."""

    def __init__(self, config: Config) -> None:
        c = self.config = config
        self.crop = Crop(side=c.hr_crop, turn=c.turn)
        self.generator = generator(c)
        betas = (c.beta1, c.beta2)
        self.generator_optimizer = Adam(self.generator.parameters(), lr=c.learning_rate, betas=betas, fused=True)

    def degrade(self, hr: Tensor, draws: Draws) -> Tensor:
        c = self.config
        own = degradations.Blur(sigma=(c.blur_sigma_min, c.blur_sigma_max)) if c.blur_sigma_max else None
        return degradations.degrade(c.degradation or own or degradations.Bicubic(), hr, c.scale, draws)

    def train_step(self, lr: Tensor, hr: Tensor, draws: Draws, step: int, update: Update) -> dict[str, Tensor]:
        c = self.config
        factor = cosine(step, c.steps, c.warmup_steps) if c.schedule == "cosine" else 1.0
        set_learning_rate(self.generator_optimizer, c.learning_rate * factor)

        loss = pixel.l1(self.generator(lr), hr)
        update(self.generator_optimizer, loss)

        logged = loss.detach()
        rate = torch.tensor(c.learning_rate * factor)
        return {"generator/total": logged, "generator/pixel": logged, "learning_rate": rate}


def tiny() -> Config:
    return Config(batch_size=2, steps=4, hr_crop=16, num_features=8, num_hr_features=4, num_blocks=1)
