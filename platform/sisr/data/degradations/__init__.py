"""How lr is made from hr, in batch, on the training device; one family a file."""

from sisr.config.degradation import Bicubic, Blur
from sisr.data.bicubic import downscale as bicubic
from sisr.data.degradations.choice import degrade
from sisr.data.degradations.classic import area, gaussian_blur, quantise
from sisr.data.degradations.sharpening import sharpened

__all__ = ["Bicubic", "Blur", "area", "bicubic", "degrade", "gaussian_blur", "quantise", "sharpened"]
