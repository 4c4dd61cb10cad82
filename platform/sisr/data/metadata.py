"""What an image file says besides its pixels: EXIF, with its orientation, resolution for printing, texts.

XMP is not read.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

ORIENTATION = ExifTags.Base.Orientation
COMMENT = "Comment"  # PNG's name for what JPEG has one of, without a name
XMP = "XML:com.adobe.xmp"


@dataclass(frozen=True)
class Metadata:
    """What is kept when a picture is enlarged."""

    exif: bytes = b""  # as Pillow takes it; without the orientation, for pixels are upright
    dpi: tuple[float, float] | None = None
    texts: tuple[tuple[str, str], ...] = ()  # names and contents

    def of_size(self, width: int, height: int) -> "Metadata":
        """Return the same for a picture of this size in px, where EXIF names one."""
        if not self.exif:
            return self
        exif = Image.Exif()
        exif.load(self.exif)
        details = exif.get_ifd(ExifTags.IFD.Exif)
        for tags, names in (
            (details, (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)),
            (exif, (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength)),
        ):
            for name, size in zip(names, (width, height), strict=True):
                if name in tags:
                    tags[name] = size
        return replace(self, exif=exif.tobytes())

    def options(self, file_format: str) -> dict[str, Any]:
        """Return Pillow's options for JPEG, WebP and AVIF, of which JPEG alone holds a resolution and a text."""
        found: dict[str, Any] = {"exif": self.exif} if self.exif else {}
        if file_format == "JPEG":
            found |= {"dpi": self.dpi} if self.dpi else {}
            comment = dict(self.texts).get(COMMENT)
            found |= {"comment": comment.encode()} if comment else {}
        return found


NO_METADATA = Metadata()


def read_metadata(image: Image.Image) -> Metadata:
    """Return what a loaded image's file says; what can't be read is left out: it never decides about a picture."""
    exif, dpi = b"", image.info.get("dpi")
    try:
        tags = image.getexif()
        if image.format == "JPEG" and not image.info.get("jfif_unit") and ExifTags.Base.XResolution not in tags:
            dpi = None  # Pillow invents 72 for a file that says nothing
        tags.get_ifd(ExifTags.IFD.Exif)
        tags.get_ifd(ExifTags.IFD.GPSInfo)
        tags.pop(ORIENTATION, None)
        exif = tags.tobytes() if len(tags) and image.format != "TIFF" else b""  # TIFF's tags say how its pixels lie
    except Exception:  # whatever Pillow meets there
        exif, dpi = b"", None
    texts = {name: str(text) for name, text in getattr(image, "text", {}).items() if name != XMP}
    if isinstance(comment := image.info.get("comment"), bytes):
        texts[COMMENT] = comment.decode("utf-8", "replace")
    if not (isinstance(dpi, tuple) and len(dpi) == 2 and all(float(each) > 0 for each in dpi)):
        dpi = None
    return Metadata(exif, dpi and (float(dpi[0]), float(dpi[1])), tuple(texts.items()))


def turned(samples: NDArray[np.uint16], orientation: object) -> NDArray[np.uint16]:
    """Return samples (h, w, channels) upright, where EXIF says `orientation`, as Pillow turns images."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    across, down = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return np.ascontiguousarray(samples[:: -1 if down else 1, :: -1 if across else 1])
