"""Any generator that the community has goes on learning, with a judge that comes in late, or without one.

A network of another project, which spandrel recognises by its weights or builds by its name, lowers L1, the distance of
VGG-19 features and an adversarial loss. Fine-tuning collapses where a judge that knows nothing yet pushes a generator
that is good already: here only the judge learns for `judge_warmup_steps`, and then its weight rises from 0 over
`ramp_steps`. `--init-judge` starts with one that has learned before.

Source: the losses and their weights are those of Wang et al., "Real-ESRGAN", 2021, https://arxiv.org/abs/2107.10833,
with features of one layer; the warm-up is ours. Networks: https://github.com/chaiNNer-org/spandrel.

Command: sisr train finetune --data PHOTOS --set network=WEIGHTS.pth
The network may be an architecture's name, too, such as SPAN, with `network_options`, or a run of this recipe. Without
the ImageNet weights: --set perceptual=none. A run that no longer gets better ends itself: --option patience=10

Measured: Compact on BSDS500, two seeds: VGG distance 2.61 -> 2.12, PSNR-Y 26.30 -> 25.5 dB; see docs/recipes.md
"""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam

from sisr.errors import ConfigError
from sisr.losses import adversarial, perceptual
from sisr.models import zoo
from sisr.nets.judges import VGGStyleDiscriminator
from sisr.nets.unet import UNetDiscriminatorSN
from sisr.recipe import (
    Crop,
    Degradation,
    Draws,
    Field,
    Generator,
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
    """Settings of fine-tuning."""

    network: str = Field("Compact", description="a run, model folder or weights file; or an architecture, built anew")
    network_options: dict[str, Any] = Field({}, description="of an architecture that is built anew, by its own names")
    scale: int = Field(4, ge=1, description="hr side / lr side; the network's own where it has weights")
    batch_size: int = Field(16, ge=1, description="examples per step over all workers")
    steps: int = Field(20_000, ge=1, description="length of the run, warm-up of the judge included")
    hr_crop: int = Field(128, ge=8, description="px, side of an hr example")
    degradation: Degradation | None = Field(None, description="how lr is made; null: bicubic")
    turn: bool = Field(True, description="turn crops by 90 degrees and upside down at random")
    learning_rate: float = Field(1e-4, gt=0, description="of the generator's Adam")
    discriminator_learning_rate: float = Field(1e-4, gt=0, description="of the judge's Adam")
    beta1: float = Field(0.9, ge=0, lt=1, description="of both Adams")
    beta2: float = Field(0.99, ge=0, lt=1, description="of both Adams")
    pixel_weight: float = Field(1.0, ge=0, description="of L1")
    perceptual_weight: float = Field(1.0, ge=0, description="of the absolute distance of VGG-19 features")
    adversarial_weight: float = Field(0.1, ge=0, description="of the cross-entropy, once it has risen")
    judge: Literal["unet", "vgg", "none"] = Field(
        "unet", description="unet: Real-ESRGAN's, of every pixel; vgg: ESRGAN's, of the whole; none: no judge"
    )
    discriminator_features: int = Field(64, ge=1, description="width of the judge's first convolutions")
    judge_warmup_steps: int = Field(500, ge=0, description="steps at the start in which only the judge learns")
    ramp_steps: int = Field(1000, ge=0, description="steps after these in which the adversarial weight rises from 0")
    perceptual: str = Field("imagenet", description="VGG-19 weights: imagenet, random, a file's path; none: no VGG-19")
    perceptual_layers: tuple[str, ...] = Field(("conv5_4",), min_length=1, description="of VGG-19, such as conv5_4")

    presets: ClassVar[dict[str, Preset]] = {
        "cpu": Preset(
            "small crops and judge: with Compact 0.3 GiB, and 0.9 s a step on one core with AMX, in bf16",
            {
                "hr_crop": 64,
                "batch_size": 8,
                "discriminator_features": 16,
                "judge_warmup_steps": 150,
                "ramp_steps": 300,
                "steps": 2000,
            },
        ),
        "8gb": Preset("the defaults; with Compact counted 2.4 GiB in fp32, not measured on a GPU"),
        "24gb": Preset("the defaults; with Compact counted 2.4 GiB in fp32, not measured on a GPU"),
    }


def generator(config: Config) -> Generator:
    return zoo.build(config.network, config.scale, config.network_options)


def adopt(found: zoo.Architecture) -> dict[str, Any]:
    """Return the settings with which the generator is a given network; see `sisr.recipe`."""
    return {"network": found.name, "network_options": found.options, "scale": found.scale}


class Recipe:
    """A generator that steps first, if it steps, and a judge that follows."""

    def __init__(self, config: Config) -> None:
        c = self.config = config
        self.crop = Crop(side=c.hr_crop, turn=c.turn)
        self.generator = generator(c)
        _require_crop(self.generator, c.hr_crop)
        self.vgg = None if c.perceptual == "none" else perceptual.Vgg19(c.perceptual_layers, c.perceptual)
        betas = (c.beta1, c.beta2)
        trained = [p for p in self.generator.parameters() if p.requires_grad]
        self.generator_optimizer = Adam(trained, lr=c.learning_rate, betas=betas, fused=True)
        self.roles = Roles()
        if c.judge == "none":
            return
        self.roles = Roles(judges=(Judge("discriminator", "logits"),), judges_alone=c.judge_warmup_steps)
        self.discriminator = _judge(c)
        self.discriminator_optimizer = Adam(
            self.discriminator.parameters(), lr=c.discriminator_learning_rate, betas=betas, fused=True
        )

    def degrade(self, hr: Tensor, draws: Draws) -> Tensor:
        chosen = self.config.degradation or degradations.Bicubic()
        return degradations.degrade(chosen, hr, self.config.scale, draws)

    def train_step(self, lr: Tensor, hr: Tensor, draws: Draws, step: int, update: Update) -> dict[str, Tensor]:
        c = self.config
        set_learning_rate(self.generator_optimizer, c.learning_rate)
        learns = c.judge == "none" or step >= c.judge_warmup_steps

        with torch.set_grad_enabled(learns):
            sr = self.generator(lr)
        if learns:
            losses = self.generator_losses(sr, hr, step)
            update(self.generator_optimizer, losses["generator/total"])
        else:
            losses = dict.fromkeys(("generator/total", "generator/pixel"), pixel.l1(sr, hr))
        logged = {name: loss.detach() for name, loss in losses.items()}
        if c.judge == "none":
            return logged | {"learning_rate": torch.tensor(c.learning_rate)}

        set_learning_rate(self.discriminator_optimizer, c.discriminator_learning_rate)
        real_logits, fake_logits = self.discriminator(hr), self.discriminator(sr.detach())
        discriminator_loss = adversarial.bce_discriminator(real_logits, fake_logits)
        update(self.discriminator_optimizer, discriminator_loss)

        return logged | {
            "discriminator/total": discriminator_loss.detach(),
            "discriminator/real_logits": real_logits.detach().mean(),
            "discriminator/fake_logits": fake_logits.detach().mean(),
            "generator/adversarial_weight": torch.tensor(self.adversarial_weight(step)),
            "learning_rate": torch.tensor(c.learning_rate),
        }

    def generator_losses(self, sr: Tensor, hr: Tensor, step: int) -> dict[str, Tensor]:
        """Return each term of the generator's loss, unweighted, and their weighted total."""
        c = self.config
        terms = {"pixel": (c.pixel_weight, pixel.l1(sr, hr))}
        if self.vgg is not None:
            terms["perceptual"] = (c.perceptual_weight, perceptual.feature_l1(self.vgg(sr), self.vgg.constant(hr)))
        if c.judge != "none":
            terms["adversarial"] = (self.adversarial_weight(step), adversarial.bce_generator(self.discriminator(sr)))
        return adversarial.weighted("generator", terms)

    def adversarial_weight(self, step: int) -> float:
        """Return the weight of the adversarial term in a step: 0 in the warm-up, all of it after the rise."""
        c = self.config
        risen = min(1.0, max(0, step + 1 - c.judge_warmup_steps) / max(1, c.ramp_steps))
        return c.adversarial_weight * risen


def _judge(config: Config) -> nn.Module:
    if config.judge == "vgg":
        return VGGStyleDiscriminator(config.discriminator_features, config.hr_crop)
    if config.hr_crop % 8:
        raise ConfigError(f"judge=unet wants hr_crop to be a multiple of 8, got {config.hr_crop}")
    return UNetDiscriminatorSN(config.discriminator_features)


def _require_crop(network: Generator, hr_crop: int) -> None:
    """Raise ConfigError unless examples have a size that the network takes."""
    tiling = network.tiling
    side = tiling.padded(max(1, round(hr_crop / tiling.scale)))
    if side * tiling.scale != hr_crop:
        raise ConfigError(
            f"{type(network).__name__} takes lr of multiples of {tiling.size_multiple} px, at least {tiling.minimum}: "
            f"hr_crop {hr_crop} does not fit scale {tiling.scale}; {side * tiling.scale} does"
        )


def tiny() -> Config:
    return Config(
        network="Compact",
        network_options={"num_feat": 8, "num_conv": 2},
        batch_size=4,
        steps=4,
        hr_crop=32,
        judge="vgg",
        discriminator_features=4,
        judge_warmup_steps=1,
        ramp_steps=2,
        perceptual="random",
        perceptual_layers=("conv1_2", "conv2_1"),
    )
