"""How a number was measured. PSNR without it is the field's commonest quarrel, so every result carries the stamp."""

from dataclasses import dataclass

from sisr.config.wording import did_you_mean
from sisr.errors import ConfigError
from sisr.metrics.catalogue import PIXELS


@dataclass(frozen=True)
class Protocol:
    """One published way of measuring: which LR images, which pixels, which mean.

    In both, hr is cut at the bottom and right to a multiple of the scale, lr is MATLAB's bicubic with mirrored borders,
    sr is clipped and rounded to 8 bit, `scale` pixels are left out on each side, and per-image values are averaged.
    """

    name: str
    luma_first: bool  # only the luma exists: hr is its 8-bit rounding, lr stays unrounded; else lr and sr are 8-bit RGB
    summary: str

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured, in the order of the table."""
        return tuple(metric.name for metric in PIXELS if metric.channels == "Y" or not self.luma_first)

    def stamp(self, scale: int) -> str:
        """Return the protocol in one line, such as `rgb8|Y-of-RGB|crop4|matlab-mirror-u8|sr-u8|mod4|mean-of-images`."""
        channel, lr = ("Y-u8-first", "matlab-mirror-double") if self.luma_first else ("Y-of-RGB", "matlab-mirror-u8")
        return f"{self.name}|{channel}|crop{scale}|{lr}|sr-u8|mod{scale}|mean-of-images"


PROTOCOLS = (
    Protocol("rgb8", False, "LR and SR are 8-bit RGB images, as users have them; then Y (grey counts as RGB)"),
    Protocol("y", True, "the luma alone, LR kept in double: SRCNN's and VDSR's tables (grey counts as Y)"),
)


def protocol(name: str) -> Protocol:
    """Return the protocol called `name`.

    Raises:
        ConfigError: There is none; the message lists all.
    """
    for each in PROTOCOLS:
        if each.name == name:
            return each
    hint = did_you_mean(name, [p.name for p in PROTOCOLS])
    choices = ", ".join(f"{p.name} ({p.summary})" for p in PROTOCOLS)
    raise ConfigError(f"no protocol '{name}'{f'; {hint}' if hint else '.'} All protocols: {choices}")
