"""Which image formats are read, how the others are called, and what each format needs before Pillow may decode it."""

import re

from PIL import AvifImagePlugin, BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from sisr.config.wording import printable
from sisr.errors import DataError

READ = ("PNG", "JPEG", "WebP", "AVIF", "BMP", "TIFF")
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".tif", ".tiff"))
# Files with these suffixes are pictures, too, and are refused by name instead of being passed over.
OTHER_SUFFIXES = frozenset(
    (".exr", ".gif", ".hdr", ".heic", ".heif", ".j2k", ".jp2", ".jxl", ".pgm", ".ppm", ".psd", ".tga")
)

_SIGNATURES = {
    "PNG": rb"\x89PNG",
    "JPEG": rb"\xff\xd8\xff",
    "WebP": rb"RIFF....WEBP",
    "BMP": rb"BM",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "GIF": rb"GIF8",
    "AVIF": rb"....ftypavi[fs]",
    "HEIF": rb"....ftyp(hei|hev|mif|msf)",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "Photoshop": rb"8BPS",
    "OpenEXR": rb"v/1\x01",
    "Radiance HDR": rb"#\?R",
    "PNM": rb"P[1-6]\s",
    "SVG or HTML": rb"\s*<",
    "git-lfs pointer": rb"version https://git-lfs",
}
# Pillow's classes are called themselves: `Image.open` would hide why they can't read a file.
OPEN = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.jpeg_factory,
    "WebP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}


class RefusedError(DataError):
    """An image file that can't be used.

    Attributes:
        kind: The reason in a few words, the same for all such files: what refusals are counted by.
        detail: What was found in this one.
    """

    def __init__(self, kind: str, detail: str, path: object = None) -> None:
        super().__init__(f"{printable(str(path))}: {kind}: {detail}" if path else f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


def identify(data: bytes, suffix: str = "") -> str:
    """Return the format of a file, one of `READ`, by how it begins; TGA, which has no signature, by its suffix.

    Raises:
        RefusedError: It is another format, or none.
    """
    if not data:
        raise RefusedError("empty file", "0 bytes")
    start = data[:32]
    name = next((name for name, pattern in _SIGNATURES.items() if re.match(pattern, start, re.DOTALL)), "")
    name = name or ("TGA" if suffix.lower() == ".tga" else "")
    if name in READ:
        return name
    readable = f"{', '.join(READ[:-1])} and {READ[-1]} are read"
    if name:
        raise RefusedError("unsupported format", f"{name}; {readable}")
    raise RefusedError("not an image", f"it begins with {_shown(start[:8])}; {readable}")


def _shown(start: bytes) -> str:
    """Return the first bytes of a file as a reader knows them: as text where they are, else in hexadecimal."""
    text = start.decode("ascii", "replace")
    return (
        f"'{' '.join(text.split())}'"
        if all(c.isprintable() or c.isspace() for c in text) and "\ufffd" not in text
        else start.hex(" ")
    )
