"""A convolutional critic without normalisation, as a gradient penalty of each image alone wants it."""

from torch import Tensor, nn


class ConvCritic(nn.Module):
    """Eight 3x3 convolutions that halve the size whenever the width doubles, then two fully connected layers.

    Args:
        num_features: Width of the first two convolutions; each further pair has twice as much, up to 8 times.
        num_hidden: Width between the fully connected layers.
        pooled_side: px, side of the feature map that they see, whatever the size of the image.
    """

    def __init__(self, num_features: int = 64, num_hidden: int = 1024, pooled_side: int = 6) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (num_features, 2 * num_features, 4 * num_features, 8 * num_features):
            for stride in (1, 2):
                layers += [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.LeakyReLU(0.2)]
                inputs = outputs
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(pooled_side), nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(inputs * pooled_side**2, num_hidden), nn.LeakyReLU(0.2), nn.Linear(num_hidden, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return one unbounded score per image (n,). `images` are (n, 3, h, w) in [0, 1]."""
        return self.head(self.features(images)).squeeze(1)
