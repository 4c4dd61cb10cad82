"""Real-ESRGAN's judge: a U-Net with spectral normalisation, one verdict a pixel; published names of its modules."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of every leaky ReLU below 0


class SpectralConv(nn.Module):
    """A convolution without bias whose weight is divided by its largest singular value.

    Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018, algorithm 1.
    https://arxiv.org/abs/1802.05957
    Each pass in training mode improves the estimate of both singular vectors by one power iteration. The names are
    those of PyTorch's first `spectral_norm`, as which the weights are published.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight_orig = nn.Parameter(torch.empty(outputs, inputs, side, side))
        nn.init.kaiming_uniform_(self.weight_orig, a=math.sqrt(5))  # as a plain convolution's
        self.register_buffer("weight_u", F.normalize(torch.randn(outputs), dim=0, eps=1e-12))
        self.register_buffer("weight_v", F.normalize(torch.randn(inputs * side**2), dim=0, eps=1e-12))
        with torch.no_grad():
            for _ in range(15):  # the first verdicts shall already be of a normalised judge
                self._iterate(self.weight_orig.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            matrix = self.weight_orig.flatten(1)
            if self.training:
                with torch.no_grad():
                    self._iterate(matrix)
            # Copies: the next pass changes the vectors while this one's gradient may still be to come.
            largest = torch.dot(self.weight_u.clone(), torch.mv(matrix, self.weight_v.clone()))
            weight = self.weight_orig / largest
        return F.conv2d(x, weight, stride=self.stride, padding=1)

    def _iterate(self, matrix: Tensor) -> None:
        self.weight_v.copy_(F.normalize(torch.mv(matrix.t(), self.weight_u), dim=0, eps=1e-12))
        self.weight_u.copy_(F.normalize(torch.mv(matrix, self.weight_v), dim=0, eps=1e-12))


class UNetDiscriminatorSN(nn.Module):
    """Three halvings and three doublings whose results are added, so that every pixel is judged in its context.

    Wang et al., "Real-ESRGAN", 2021, section 3.4. https://arxiv.org/abs/2107.10833

    `num_feat` is the width at full size, which each halving doubles.
    """

    def __init__(self, num_feat: int = 64) -> None:
        super().__init__()
        f = num_feat
        self.conv0 = nn.Conv2d(3, f, 3, padding=1)
        self.conv1, self.conv2, self.conv3 = (SpectralConv(f * n, f * 2 * n, 4, stride=2) for n in (1, 2, 4))
        self.conv4, self.conv5, self.conv6 = (SpectralConv(f * 2 * n, f * n, 3) for n in (4, 2, 1))
        self.conv7, self.conv8 = SpectralConv(f, f, 3), SpectralConv(f, f, 3)
        self.conv9 = nn.Conv2d(f, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return one logit per pixel (n, 1, h, w): positive means real.

        `images` are (n, 3, h, w) in [0, 1], h and w multiples of 8.
        """
        height, width = images.shape[2:]
        if height % 8 or width % 8:
            raise ValueError(f"discriminator wants sides that are multiples of 8, got {height}x{width}")
        full = F.leaky_relu(self.conv0(images), SLOPE)
        half = F.leaky_relu(self.conv1(full), SLOPE)
        quarter = F.leaky_relu(self.conv2(half), SLOPE)
        x = F.leaky_relu(self.conv3(quarter), SLOPE)
        for conv, before in ((self.conv4, quarter), (self.conv5, half), (self.conv6, full)):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(conv(x), SLOPE) + before
        x = F.leaky_relu(self.conv8(F.leaky_relu(self.conv7(x), SLOPE)), SLOPE)
        return self.conv9(x)
