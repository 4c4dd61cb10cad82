"""How a training example is cut from a source image."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Crop:
    """How one high-resolution training example is cut from a source image.

    A window of `source_side` pixels is taken at random (inside `box`, where given) and, where it is larger than
    `side`, averaged down to `side` pixels. Colour factors are uniform in 1 - x .. 1 + x (brightness: an offset in
    -x .. x), drawn once per example.
    """

    side: int  # px, of the hr example
    source_side: int | None = None  # px, of the window in the source image; None: side; a multiple of side
    box: tuple[int, int, int, int] | None = None  # px, (x, y, width, height) that windows stay in; None: whole image
    flip: bool = True  # left-right, with probability 1/2
    turn: bool = False  # transposed, with probability 1/2, and upside down, with probability 1/2
    rotate_degrees: float = 0.0  # rotated by an angle uniform in 0 .. this
    saturation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    @property
    def window(self) -> int:
        """Side in pixels of the window cut from the source image."""
        return self.source_side or self.side
