"""Which function makes lr for which setting."""

from torch import Tensor

from sisr.config.degradation import Area, Bicubic, Blur, Degradation, RealEsrgan
from sisr.data import bicubic
from sisr.data.degradations import classic
from sisr.data.degradations.bsrgan import bsrgan
from sisr.data.degradations.real_esrgan import real_esrgan
from sisr.data.draws import Draws
from sisr.errors import ConfigError


def degrade(chosen: Degradation, hr: Tensor, scale: int, draws: Draws) -> Tensor:
    """Return lr (n, 3, h / scale, w / scale) of hr (n, 3, h, w) in [0, 1], of 8 bits, as a setting says.

    Raises:
        ConfigError: hr is too small for the widest blur.
    """
    if isinstance(chosen, Bicubic):
        return classic.quantise(bicubic.downscale(hr, scale))
    if isinstance(chosen, Area):
        return classic.quantise(classic.area(hr, scale))
    if isinstance(chosen, Blur):
        return classic.quantise(bicubic.downscale(_blurred(chosen, hr, draws), scale))
    if isinstance(chosen, RealEsrgan):
        return real_esrgan(chosen, hr, scale, draws)
    return bsrgan(chosen, hr, scale, draws)


def _blurred(chosen: Blur, hr: Tensor, draws: Draws) -> Tensor:
    low, high = chosen.sigma
    height, width = hr.shape[-2:]
    if min(height, width) <= 3 * high:
        raise ConfigError(f"a blur of up to {high} px wants images larger than {3 * high:g} px, got {height}x{width}")
    return classic.gaussian_blur(hr, draws.uniform("blur", low=low, high=high), high)
