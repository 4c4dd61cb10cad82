"""What is kept of a file when its picture is enlarged: 16 bits, EXIF, resolution, texts."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from sisr.data.images import Picture, decode_with_alpha
from sisr.data.metadata import Metadata, turned
from sisr.data.writing import Aside, written

DEEP = np.random.default_rng(0).integers(0, 2**16, (5, 7, 4), dtype=np.uint16)


def kept(source: Path | bytes) -> Picture:
    return decode_with_alpha(source, everything=True)


def deep_png(samples: np.ndarray) -> bytes:
    """A PNG written by hand, with the filter that subtracts nothing: Pillow can't write it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_of_each_channel_are_read(channels: int) -> None:
    picture = kept(deep_png(DEEP[..., :channels]))
    assert picture.deep is not None
    np.testing.assert_array_equal(picture.deep, DEEP[..., :channels])
    assert decode_with_alpha(deep_png(DEEP)).deep is None, "only where they are asked for"


def test_sixteen_bit_grey_fills_three_channels() -> None:
    picture = kept(deep_png(DEEP[..., :1]))
    assert picture.deep is not None
    np.testing.assert_array_equal(picture.deep, DEEP[..., :1].repeat(3, axis=2))


def test_eight_bits_are_not_called_sixteen() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    assert kept(file.getvalue()).deep is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_samples_are_turned_as_pillow_turns_images(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    Image.fromarray(DEEP[..., :3].astype(np.uint8)).save(file, "PNG", exif=exif)
    upright = decode_with_alpha(file.getvalue()).pixels
    np.testing.assert_array_equal(turned(DEEP[..., :3], orientation).astype(np.uint8), upright)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_written(tmp_path: Path, channels: int) -> None:
    y, x, c = np.mgrid[:40, :30, :channels]
    image = (1000 * x + 777 * y * (x > 9) + c).astype(np.uint16)
    with written(tmp_path / "x.png", 30, 40, channels, depth=16) as writer:
        writer.write(image[:11])
        writer.write(image[11:])
    picture = kept(tmp_path / "x.png")
    assert picture.deep is not None
    np.testing.assert_array_equal(picture.deep[..., : 1 if channels == 1 else channels], image)


def described() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Nikon"
    exif[ExifTags.Base.Orientation] = 6
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ISOSpeedRatings] = 200
    details[ExifTags.Base.ExifImageWidth] = 20
    return exif


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif"])
def test_exif_is_kept_but_for_the_orientation_and_the_size(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "in.jpg", exif=described())
    metadata = kept(tmp_path / "in.jpg").metadata.of_size(40, 80)
    with written(tmp_path / f"out{suffix}", 40, 80, 3, aside=Aside(metadata=metadata)) as writer:
        writer.write(np.zeros((80, 40, 3), np.uint8))
    with Image.open(tmp_path / f"out{suffix}") as image:
        found = image.getexif()
    assert found[ExifTags.Base.Make] == "Nikon"
    assert found.get(ExifTags.Base.Orientation, 1) == 1
    assert found.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 200
    assert found.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] == 40


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_resolution_and_texts_are_kept(tmp_path: Path, suffix: str) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "drawn by hand")
    texts.add_itxt("Title", "Größe")
    Image.new("L", (4, 4)).save(tmp_path / "in.png", dpi=(300, 300), pnginfo=texts)
    metadata = kept(tmp_path / "in.png").metadata
    with written(tmp_path / f"out{suffix}", 4, 4, 1, aside=Aside(metadata=metadata)) as writer:
        writer.write(np.zeros((4, 4, 1), np.uint8))
    with Image.open(tmp_path / f"out{suffix}") as image:
        image.load()
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.02)
        if isinstance(image, PngImagePlugin.PngImageFile):
            found = dict(image.text)
        else:
            found = {"Comment": image.info["comment"].decode()}
    expected = {"Comment": "drawn by hand"} | ({"Title": "Größe"} if suffix == ".png" else {})
    assert found == expected


def test_what_can_t_be_read_is_left_out(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "in.jpg", exif=b"Exif\0\0nonsense")
    assert kept(tmp_path / "in.jpg").metadata == Metadata()


def test_avif_is_read(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :48]
    image = np.stack([2 * x, 3 * y, x + y], axis=2).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "x.avif", quality=95)
    assert np.abs(kept(tmp_path / "x.avif").pixels.astype(int) - image).mean() < 3
