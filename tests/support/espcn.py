"""ESPCN: two convolutions at low resolution, then sub-pixel convolution, trained by L1.

Source: Shi et al., "Real-Time Single Image and Video Super-Resolution ...", 2016, https://arxiv.org/abs/1609.05158"""

from torch import Tensor, nn, optim

from sisr.recipe import Crop, Draws, Field, Generator, Settings, Tiling, Update, as_generator, degradations, pixel


class Config(Settings):
    scale: int = Field(4, ge=2, le=4, description="hr side / lr side")
    batch_size: int = Field(16, ge=1, description="examples per step over all workers")
    steps: int = Field(20_000, ge=1, description="length of the run")
    hr_crop: int = Field(96, ge=16, description="px, side of an hr example; a multiple of scale")
    num_features: int = Field(64, ge=1, description="channels")


def generator(config: Config) -> Generator:
    first = nn.Conv2d(3, config.num_features, 5, padding=2), nn.Tanh(), nn.Conv2d(config.num_features, 32, 3, padding=1)
    last = nn.Tanh(), nn.Conv2d(32, 3 * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
    return as_generator(nn.Sequential(*first, *last), Tiling(config.scale, halo=4))  # sr pixels look 2 + 1 + 1 px far


class Recipe:
    def __init__(self, config: Config) -> None:  # its networks and optimizers are moved, saved and restored
        self.crop, self.generator = Crop(side=config.hr_crop), generator(config)
        self.optimizer = optim.Adam(self.generator.parameters(), lr=1e-3, fused=True)

    def degrade(self, hr: Tensor, draws: Draws) -> Tensor:  # `draws` are this batch's random numbers, for noise or blur
        return degradations.quantise(degradations.bicubic(hr, self.generator.tiling.scale))

    def train_step(self, lr: Tensor, hr: Tensor, draws: Draws, step: int, update: Update) -> dict[str, Tensor]:
        loss = pixel.l1(self.generator(lr), hr)
        update(self.optimizer, loss)  # averages the gradient over all workers
        return {"generator/pixel": loss.detach()}


def tiny() -> Config:  # the smallest settings that run every branch
    return Config(batch_size=2, steps=4, hr_crop=16, num_features=4)
