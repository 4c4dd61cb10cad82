"""How a TIFF stores its pixels, where Pillow would guess: it is converted exactly, or refused by what was found.

TIFF revision 6.0, 1992. https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
"""

import io
from dataclasses import dataclass

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sisr.data.formats import RefusedError

WIDTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, PLANES, INKS, EXTRA, FORMAT = (
    256, 258, 259, 262, 266, 284, 332, 338, 339
)  # fmt: skip
OLD_JPEG = 6  # a compression that fixes the colours
MIN_IS_WHITE, RGB, CMYK, YCBCR, LAB = 0, 2, 5, 6, 8  # photometric interpretations
UNSIGNED = 1  # a sample format
ASSOCIATED, UNASSOCIATED, UNSPECIFIED = 1, 2, 0  # extra samples: alpha (colours multiplied by it, or not), anything


@dataclass(frozen=True)
class Layout:
    """How pixels are stored."""

    bits: tuple[int, ...] = (1,)  # of each sample
    photometric: int | None = None  # what samples mean
    sample_format: tuple[int, ...] = (1,)
    extra: tuple[int, ...] = ()  # meanings of the samples beyond the colours
    planes: int = 1  # 2: each sample has its own
    fill_order: int = 1
    inks: int = 1  # 1: cyan, magenta, yellow, black
    compression: int = 1

    @property
    def largest(self) -> int:
        """Return the largest value of a sample."""
        return int(2 ** max(self.bits) - 1)

    def __str__(self) -> str:
        return (
            f"BitsPerSample {self.bits}, PhotometricInterpretation {self.photometric}, "
            f"SampleFormat {self.sample_format}, ExtraSamples {self.extra}"
        )


def read(data: bytes) -> Layout:
    """Return how the first page's pixels are stored.

    Raises:
        RefusedError: In a way that Pillow would guess at.
    """
    header = 16 if 43 in data[2:4] else 8
    tags = ImageFileDirectory_v2(data[:header])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    if WIDTH not in tags:
        raise RefusedError("damaged", "the directory of the TIFF names no width")
    layout = Layout(
        tags.get(BITS, (1,)), tags.get(PHOTOMETRIC), tags.get(FORMAT, (1,)), tags.get(EXTRA, ()),
        tags.get(PLANES, 1), tags.get(FILL_ORDER, 1), tags.get(INKS, 1), tags.get(COMPRESSION, 1),
    )  # fmt: skip
    if reason := _ambiguity(layout):
        raise RefusedError("unsupported pixels", f"{reason} ({layout}); save 8 or 16 bits, unsigned")
    return layout


def _ambiguity(layout: Layout) -> str:
    """Return why Pillow would guess; empty where it knows."""
    if layout.photometric is None and layout.compression != OLD_JPEG:
        return "it does not say what its samples mean"
    colours = {RGB: 3, CMYK: 4, YCBCR: 3, LAB: 3}.get(layout.photometric or 0, 1)
    if len(layout.bits) > colours + len(layout.extra):
        return "it does not say what the samples beyond the colours mean"
    if not set(layout.extra) <= {UNSPECIFIED, ASSOCIATED, UNASSOCIATED}:
        return "unknown extra samples"
    if max(layout.bits) <= 16 and set(layout.sample_format) != {UNSIGNED}:  # larger ones are refused by their mode
        return "the samples are not unsigned numbers"
    if layout.photometric == CMYK and layout.inks != 1:
        return "the inks are not cyan, magenta, yellow and black"
    if layout.planes == 2 and len(layout.bits) > 1:
        is_plain = layout.photometric in (RGB, CMYK) and set(layout.bits) == {8} and ASSOCIATED not in layout.extra
        return "" if is_plain else "each sample has a plane of its own"
    return "the bits of each byte are reversed" if layout.fill_order == 2 and max(layout.bits) > 8 else ""
