"""Initial weights that several networks have in common."""

from torch import nn


def small_kaiming(network: nn.Module, factor: float) -> None:
    """Set the weights of all convolutions to Kaiming normals times `factor`, their biases to 0.

    Wang et al., "ESRGAN", 2018, section 3.2: small weights are what deep residual networks train well from.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            module.weight.data.mul_(factor)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
