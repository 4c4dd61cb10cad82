"""Pairs of lr and hr: which kernel made the lr, and whether both show the same at the same place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sisr.config.wording import printable
from sisr.data.bicubic import resize
from sisr.data.images import decode
from sisr.data.kernels import made_by
from sisr.data.pairs import Pixels
from sisr.doctor import Diagnosis
from sisr.terminal.console import progress

KERNEL_OF, ALIGNMENT_OF = 8, 64  # pairs that are looked at, spread over all
MISALIGNED = 0.5  # px of hr
FINEST = 0.05  # px of hr, of which a misalignment is measured; on photographs x4 it is found within 0.2
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class PairFiles:
    """Two files of one picture."""

    lr: Path
    hr: Path

    scale: int  # hr side / lr side

    def read(self) -> tuple[Pixels, Pixels, int]:
        """Return the pixels of lr and hr, and the scale."""
        return decode(self.lr), decode(self.hr), self.scale


def kernel(pairs: Sequence[PairFiles]) -> str:
    """Return in words which kernel made the lr."""
    return made_by([pair.read() for pair in _spread(pairs, KERNEL_OF)])


def alignment(pairs: Sequence[PairFiles]) -> Iterator[Diagnosis]:
    """Yield how far lr lies beside hr: in the middle of all pairs, and the first that are far from it."""
    shifts: list[NDArray[np.float64]] = []
    looked_at = _spread(pairs, ALIGNMENT_OF)
    with progress("aligning", len(looked_at)) as advance:
        for pair in looked_at:
            shifts.append(misalignment(*pair.read()))
            advance()
    usual = np.median(shifts, axis=0)
    of = f"of {len(pairs):,}" if len(shifts) < len(pairs) else "of all"
    found = f"lr lies {_words(usual)} beside hr (median {of}, {len(shifts)} looked at)"
    if np.hypot(*usual) > MISALIGNED:
        remedy = "make lr anew with a program that keeps the centres of pixels, or move hr by so much"
        yield Diagnosis("warning", "alignment", found, remedy)
    else:
        yield Diagnosis("ok", "alignment", found)
    for pair, shift in zip(looked_at, shifts, strict=True):
        if np.hypot(*(shift - usual)) > MISALIGNED:
            found = f"lies {_words(shift)} beside its hr"
            yield Diagnosis("warning", printable(pair.lr.name), found, "align or remove it")


def misalignment(lr: Pixels, hr: Pixels, scale: int) -> NDArray[np.float64]:
    """Return how far lr lies to the right of and below hr, in px of hr, by phase correlation.

    Guizar-Sicairos et al., "Efficient subpixel image registration algorithms", 2008. On photographs its peak is found
    more exactly where strong frequencies count more: amplitudes are kept.
    """
    from skimage.registration import phase_cross_correlation  # takes a moment to import

    height, width = (side * scale for side in lr.shape[:2])
    small = resize(np.ascontiguousarray(hr[:height, :width]), Fraction(1, scale))
    planes = [_windowed(image) for image in (small, lr)]
    if not all(plane.any() for plane in planes):
        return np.zeros(2)  # nothing to see in it
    finest = round(scale / FINEST)
    shift, _, _ = phase_cross_correlation(*planes, upsample_factor=finest, normalization=None)
    return np.asarray(-shift[::-1] * scale, np.float64) + 0.0  # which turns -0 into 0


def _windowed(image: Pixels) -> NDArray[np.float64]:
    """Return an image's luma around 0, faded out towards its edges."""
    luma = image @ LUMA
    rows, columns = (np.hanning(side + 2)[1:-1] for side in luma.shape)
    return np.asarray((luma - luma.mean()) * rows[:, None] * columns)


def _spread(pairs: Sequence[PairFiles], count: int) -> list[PairFiles]:
    return [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(int))]


def _words(shift: NDArray[np.float64]) -> str:
    return f"{np.hypot(*shift):.2f} px (x {shift[0]:+.2f}, y {shift[1]:+.2f})"
