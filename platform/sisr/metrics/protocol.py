"""How a number was measured. PSNR without it is the field's commonest quarrel, so every result carries the stamp."""

import re
from dataclasses import dataclass

from sisr.config.wording import did_you_mean
from sisr.errors import ConfigError
from sisr.metrics.catalogue import PIXELS

GIVEN, UNKNOWN = "given-lr", "lr-unknown"  # lr that came with hr; that of which another program made its sr


# What the parts of a stamp mean to people; a part that is not here, such as `bf16`, is shown as it is.
WORDS = {
    "Y": "on luma",
    "Y-of-RGB": "on luma",
    "Y-u8-first": "on 8-bit luma alone",
    "recipe-lr": "lr made by the recipe",
    "matlab-mirror-u8": "lr by MATLAB's bicubic in 8 bits",
    "matlab-mirror-double": "lr by MATLAB's bicubic, not rounded",
    GIVEN: "lr as given",
    UNKNOWN: "lr unknown",
    "crop=scale": "without a border of `scale` px",
    "mean-of-images": "mean of the images",
    "x8": "mean of eight turns and flips",
}
UNSAID = re.compile(r"rgb8|y|sr-u8|mod\d+")  # what is the same in all, or follows from another part


def in_words(stamp: str) -> str:
    """Return what a protocol's stamp means, such as `on luma, without a border of 4 px, lr made by the recipe, ...`."""
    parts = (WORDS.get(part, part) for part in stamp.split("|"))
    parts = (re.sub(r"^crop(\d+)$", r"without a border of \1 px", part) for part in parts)
    parts = (re.sub(r"^(lpips|swd|vgg|dists|niqe|fid)\b.*", lambda found: found[1].upper(), part) for part in parts)
    return ", ".join(part for part in parts if not UNSAID.fullmatch(part))


@dataclass(frozen=True)
class Protocol:
    """One published way of measuring: which LR images, which pixels, which mean.

    In both, hr is cut at the bottom and right to a multiple of the scale, lr is MATLAB's bicubic with mirrored borders
    unless it is given, sr is clipped and rounded to 8 bit, `scale` pixels are left out on each side, and per-image
    values are averaged.
    """

    name: str
    luma_first: bool  # only the luma exists: hr is its 8-bit rounding, lr stays unrounded; else lr and sr are 8-bit RGB
    summary: str

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured, in the order of the table."""
        return tuple(metric.name for metric in PIXELS if metric.channels == "Y" or not self.luma_first)

    def stamp(self, scale: int, lr: str = "") -> str:
        """Return the protocol in one line, such as `rgb8|Y-of-RGB|crop4|matlab-mirror-u8|sr-u8|mod4|mean-of-images`.

        `lr` says where lr came from, if it was not made as the protocol says: `GIVEN`, or `UNKNOWN`.
        """
        channel, made = ("Y-u8-first", "matlab-mirror-double") if self.luma_first else ("Y-of-RGB", "matlab-mirror-u8")
        return f"{self.name}|{channel}|crop{scale}|{lr or made}|sr-u8|mod{scale}|mean-of-images"


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
