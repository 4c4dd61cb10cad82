"""How lr is made from hr, in batch, on the training device; one family a file."""

from sisr.data.bicubic import downscale as bicubic
from sisr.data.degradations.classic import area, gaussian_blur, quantise

__all__ = ["area", "bicubic", "gaussian_blur", "quantise"]
