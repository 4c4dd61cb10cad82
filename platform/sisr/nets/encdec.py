"""An encoder-decoder generator and a strided discriminator."""

from typing import Literal

from torch import Tensor, nn

from sisr.nets.batch_norm import BatchNorm
from sisr.nets.generator import Generator, Tiling
from sisr.nets.numeric import full_precision


class EncoderDecoder(Generator):
    """Convolutions and max pooling down to a quarter of lr's size, transposed convolutions up to hr's: 4x, in (0, 1).

    `num_features` is the width of the first layers; pooling doubles it, transposed convolutions halve it.
    """

    def __init__(self, num_features: int = 64) -> None:
        super().__init__()
        self.tiling = Tiling(scale=4, halo=17, size_multiple=4)
        f = num_features
        self.encoder = nn.Sequential(
            *_convolution(3, f),
            *_convolution(f, f),
            nn.MaxPool2d(2),
            *_convolution(f, 2 * f),
            *_convolution(2 * f, 2 * f),
            nn.MaxPool2d(2),
            *_convolution(2 * f, 4 * f),
        )
        self.decoder = nn.Sequential(
            *_doubling(4 * f, 2 * f),
            *_doubling(2 * f, f),  # back at lr's size
            *_doubling(f, f),
            *_doubling(f, f // 2),
            nn.Conv2d(f // 2, 3, 3, padding=1),
        )

    def forward(self, lr: Tensor) -> Tensor:
        self.require_images(lr)
        return full_precision(self.decoder(self.encoder(lr))).sigmoid()


class StridedDiscriminator(nn.Module):
    """Four 4x4 convolutions of stride 2, the mean over the image, one linear layer.

    `num_features` is the width of the first; each further layer doubles it. Batch normalisation follows all
    convolutions but the first; with `norm` none they have biases instead.
    """

    def __init__(self, num_features: int = 64, norm: Literal["batch", "none"] = "batch") -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, num_features, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for inputs in (num_features, 2 * num_features, 4 * num_features):
            layers.append(nn.Conv2d(inputs, 2 * inputs, 4, stride=2, padding=1, bias=norm == "none"))
            if norm == "batch":
                layers.append(BatchNorm(2 * inputs, scale=True, eps=1e-5))
            layers.append(nn.LeakyReLU(0.2))
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(8 * num_features, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return one logit per image (n,): positive means real. `images` are (n, 3, h, w) in [0, 1]."""
        return self.head(self.features(images).mean(dim=(2, 3))).squeeze(1)


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]


def _doubling(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()]
