"""sisr: a Ray-distributed experiment platform for super-resolution GANs."""

__version__ = "0.1.0"
