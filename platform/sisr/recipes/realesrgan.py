"""Real-ESRGAN: a generator for pictures of unknown origin, against a judge of every pixel, 4x.

lr is made by a chain of random degradations, drawn anew for each example; the generator lowers L1 and the distance of
VGG-19 features to the sharpened hr, and a U-Net with spectral normalisation judges it against the plain hr.

Source: Wang et al., "Real-ESRGAN", 2021, https://arxiv.org/abs/2107.10833: DF2K and OutdoorSceneTraining, 12 examples
on each of 4 GPUs. An RRDB network trained by L1 over 1,000,000 steps is the start: `--init` takes such weights, of a
run or a file, and `pretrain_steps` is that phase within the run. The published average of the generator is
--option ema_half_life_images=33250 (0.999 a step of 48). `generator=compact` is the small network of the models
`realesr-general-x4v3` (num_convolutions=32) and `realesr-animevideov3` (16).

Command: sisr train realesrgan --data div2k:PATH --init RRDB_WEIGHTS.pth
The ImageNet weights are downloaded at first use; without a network: --set perceptual=FILE or --set perceptual=none

Measured: --preset cpu pretrain_steps=2000, 4,000 steps on BSDS500, 14 minutes on a CPU core in bf16: VGG-19 relu3_1
distance 4.45 (bicubic 8.43), 21.78 dB PSNR-Y (22.05) on 16 held-out photographs degraded by its own chain; see
docs/recipes.md. The full size was not run.
"""

from typing import ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor
from torch.optim import Adam

from sisr.losses import adversarial, perceptual
from sisr.nets.compact import SRVGGNetCompact
from sisr.nets.rrdb import RRDBNet
from sisr.nets.unet import UNetDiscriminatorSN
from sisr.recipe import (
    Crop,
    Degradation,
    Draws,
    Field,
    Judge,
    Preset,
    RealEsrgan,
    Roles,
    Settings,
    Update,
    degradations,
    pixel,
    set_learning_rate,
)


class Config(Settings):
    """Settings of Real-ESRGAN."""

    scale: Literal[4] = Field(4, description="hr side / lr side; fixed by the networks")
    batch_size: int = Field(48, ge=1, description="examples per step over all workers")
    steps: int = Field(400_000, ge=1, description="length of the run, pixel-only phase included")
    pretrain_steps: int = Field(0, ge=0, description="steps of L1 alone at the start; ours: 0, the authors' 1,000,000")
    hr_crop: int = Field(256, ge=32, multiple_of=8, description="px, side of an hr example")
    turn: bool = Field(True, description="turn crops by 90 degrees and upside down at random")
    degradation: Degradation = Field(RealEsrgan(), description="how lr is made")
    sharpen: bool = Field(True, description="L1 and VGG-19 see hr sharpened, and lr is made of it; the judge's is not")
    learning_rate: float = Field(1e-4, gt=0, description="of the generator's Adam")
    discriminator_learning_rate: float = Field(1e-4, gt=0, description="of the discriminator's Adam")
    pretrain_learning_rate: float = Field(2e-4, gt=0, description="of the pixel-only phase")
    beta1: float = Field(0.9, ge=0, lt=1, description="of both Adams")
    beta2: float = Field(0.99, ge=0, lt=1, description="of both Adams")
    pixel_weight: float = Field(1.0, ge=0, description="of L1")
    perceptual_weight: float = Field(1.0, ge=0, description="of the absolute distance of VGG-19 features")
    adversarial_weight: float = Field(0.1, ge=0, description="of the cross-entropy of the discriminator's verdict")
    perceptual: str = Field("imagenet", description="VGG-19 weights: imagenet, random, a file's path; none: no VGG-19")
    perceptual_layers: tuple[str, ...] = Field(
        ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4"),
        min_length=1,
        description="of VGG-19, before their ReLU",
    )
    perceptual_layer_weights: tuple[float, ...] = Field(
        (0.1, 0.1, 1.0, 1.0, 1.0), description="of each of these layers"
    )
    generator: Literal["rrdb", "compact"] = Field("rrdb", description="the published large network or the small one")
    num_features: int = Field(64, ge=1, description="channels of the generator")
    num_blocks: int = Field(23, ge=1, description="RRDBs of the large generator")
    growth: int = Field(32, ge=1, description="channels that each dense convolution of the large generator adds")
    num_convolutions: int = Field(32, ge=1, description="between the first and the last one of the small generator")
    discriminator_features: int = Field(64, ge=1, description="width of the discriminator at full size")

    presets: ClassVar[dict[str, Preset]] = {
        "cpu": Preset(
            "the small generator, small crops: 0.3 GiB, and 0.7 s a step on one core with AMX, in bf16",
            {
                "generator": "compact",
                "num_convolutions": 8,
                "num_features": 32,
                "discriminator_features": 16,
                "hr_crop": 64,
                "batch_size": 8,
                "pretrain_steps": 2000,
                "steps": 6000,
            },
        ),
        "8gb": Preset("published size; counted 4.7 GiB in fp32, not measured on a GPU", options={"accumulate": 16}),
        "24gb": Preset("published size; counted 11.8 GiB in fp32, not measured on a GPU", options={"accumulate": 6}),
    }

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        if self.pretrain_steps >= self.steps:
            raise ValueError(
                f"pretrain_steps must be less than steps {self.steps}, got {self.pretrain_steps}: of so short a run it "
                f"may be {self.steps // 5}"
            )
        layers, weights = len(self.perceptual_layers), len(self.perceptual_layer_weights)
        if layers != weights:
            raise ValueError(f"perceptual_layer_weights must be {layers}, one for each layer, got {weights}")
        return self


def generator(config: Config) -> RRDBNet | SRVGGNetCompact:
    c = config
    if c.generator == "compact":
        return SRVGGNetCompact(c.num_features, c.num_convolutions, c.scale)
    return RRDBNet(c.num_features, c.num_blocks, c.growth)


class Recipe:
    """A generator that steps first and a discriminator that follows."""

    roles = Roles(judges=(Judge("discriminator", "logits"),))

    def __init__(self, config: Config) -> None:
        c = self.config = config
        self.crop = Crop(side=c.hr_crop, turn=c.turn)
        self.generator = generator(c)
        self.discriminator = UNetDiscriminatorSN(c.discriminator_features)
        self.vgg = None if c.perceptual == "none" else perceptual.Vgg19(c.perceptual_layers, c.perceptual)
        betas = (c.beta1, c.beta2)
        self.generator_optimizer = Adam(self.generator.parameters(), lr=c.learning_rate, betas=betas, fused=True)
        self.discriminator_optimizer = Adam(
            self.discriminator.parameters(), lr=c.discriminator_learning_rate, betas=betas, fused=True
        )

    def degrade(self, hr: Tensor, draws: Draws) -> Tensor:
        return degradations.degrade(self.config.degradation, self.aim(hr), self.config.scale, draws)

    def aim(self, hr: Tensor) -> Tensor:
        """Return what the generator shall make: hr, sharpened unless that is switched off."""
        return degradations.sharpened(hr) if self.config.sharpen else hr

    def train_step(self, lr: Tensor, hr: Tensor, draws: Draws, step: int, update: Update) -> dict[str, Tensor]:
        c = self.config
        aim = self.aim(hr)
        if step < c.pretrain_steps:
            return self.pixel_step(lr, aim, update)
        set_learning_rate(self.generator_optimizer, c.learning_rate)
        set_learning_rate(self.discriminator_optimizer, c.discriminator_learning_rate)

        sr = self.generator(lr)
        losses = self.generator_losses(sr, aim)
        update(self.generator_optimizer, losses["generator/total"])

        real_logits, fake_logits = self.discriminator(hr), self.discriminator(sr.detach())
        discriminator_loss = adversarial.bce_discriminator(real_logits, fake_logits)
        update(self.discriminator_optimizer, discriminator_loss)

        return {name: loss.detach() for name, loss in losses.items()} | {
            "discriminator/total": discriminator_loss.detach(),
            "discriminator/real_logits": real_logits.detach().mean(),
            "discriminator/fake_logits": fake_logits.detach().mean(),
            "learning_rate": torch.tensor(c.learning_rate),
        }

    def pixel_step(self, lr: Tensor, aim: Tensor, update: Update) -> dict[str, Tensor]:
        """Step the generator along L1 alone."""
        rate = self.config.pretrain_learning_rate
        set_learning_rate(self.generator_optimizer, rate)
        loss = pixel.l1(self.generator(lr), aim)
        update(self.generator_optimizer, loss)
        logged = loss.detach()
        return {"generator/total": logged, "generator/pixel": logged, "learning_rate": torch.tensor(rate)}

    def generator_losses(self, sr: Tensor, aim: Tensor) -> dict[str, Tensor]:
        """Return each term of the generator's loss, unweighted, and their weighted total."""
        c = self.config
        terms = {
            "pixel": (c.pixel_weight, pixel.l1(sr, aim)),
            "adversarial": (c.adversarial_weight, adversarial.bce_generator(self.discriminator(sr))),
        }
        if self.vgg is not None:
            seen, wanted = self.vgg(sr), self.vgg.constant(aim)
            distance = perceptual.feature_l1(seen, wanted, c.perceptual_layer_weights)
            terms["perceptual"] = (c.perceptual_weight, distance)
        return adversarial.weighted("generator", terms)


def tiny() -> Config:
    return Config(
        batch_size=4,
        steps=4,
        pretrain_steps=1,
        hr_crop=32,
        perceptual="random",
        perceptual_layers=("conv1_2", "conv2_1"),
        perceptual_layer_weights=(0.1, 1.0),
        num_blocks=1,
        num_features=8,
        growth=4,
        discriminator_features=4,
    )
