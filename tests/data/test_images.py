"""One file at a time: every kind converts correctly or is refused by a reason that names what was found."""

import errno
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sisr.data import images
from sisr.data.formats import RefusedError, identify
from sisr.data.images import MAX_PIXELS, Verdict, decode, decode_with_alpha
from sisr.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(np.arange(60) * 4, np.arange(40)[:, None] * 6, 90), -1).astype(np.uint8)


def _png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG written by hand: Pillow can't write 48-bit ones, nor headers that lie."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + (chunk(b"IDAT", zlib.compress(rows)) if rows else b"") + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _rows(pixels: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)


def _encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _file(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def _saved(folder: Path, name: str, image: Image.Image, **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def examine(path: Path) -> Verdict:
    return images.examine(path)[0]


# -- converted


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp"])
def test_lossless_colour_comes_back_exactly(tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name == "a.webp" else {}
    np.testing.assert_array_equal(decode(_saved(tmp_path, name, Image.fromarray(RGB), **options)), RGB)


def test_grey_fills_three_channels(tmp_path: Path) -> None:
    pixels = decode(_saved(tmp_path, "a.png", Image.fromarray(RGB[..., 0])))
    np.testing.assert_array_equal(pixels, RGB[..., :1].repeat(3, -1))


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    bits = RGB[..., 0] > 127
    pixels = decode(_saved(tmp_path, "a.png", Image.fromarray(bits)))
    np.testing.assert_array_equal(pixels, np.where(bits, 255, 0)[..., None].repeat(3, -1))


def test_palette_becomes_its_colours(tmp_path: Path) -> None:
    palette = Image.fromarray(RGB).convert("P")
    np.testing.assert_array_equal(decode(_saved(tmp_path, "a.png", palette)), np.asarray(palette.convert("RGB")))


def test_cmyk_shows_the_colours_it_was_made_from(tmp_path: Path) -> None:
    path = _saved(tmp_path, "a.jpg", Image.fromarray(SMOOTH).convert("CMYK"), quality=100)
    assert np.abs(decode(path).astype(int) - SMOOTH).mean() < 2
    assert examine(path).notes == ("CMYK converted",)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_grey_is_scaled_and_keeps_its_levels(tmp_path: Path, name: str) -> None:
    ramp = np.linspace(0, 65535, 60).round().astype(np.uint16)[None].repeat(40, 0)
    pixels = decode(_saved(tmp_path, name, Image.fromarray(ramp)))
    np.testing.assert_array_equal(pixels[..., 0], np.floor(ramp / 65535 * 255 + 0.5))


def test_sixteen_bit_gradient_keeps_more_than_200_levels(tmp_path: Path) -> None:
    ramp = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    assert len(np.unique(decode(_saved(tmp_path, "a.png", Image.fromarray(ramp))))) > 200


def test_forty_eight_bit_colour_is_reduced_and_says_so(tmp_path: Path) -> None:
    deep = RGB.astype(np.uint16) * 257
    path = _file(tmp_path, "a.png", _png(60, 40, 16, 2, _rows(deep)))
    np.testing.assert_array_equal(decode(path), RGB)
    assert examine(path).notes == ("16 bits reduced to 8",)


def test_transparency_is_flattened_on_white(tmp_path: Path) -> None:
    alpha = np.tile(np.array([0, 128, 255], np.uint8), (40, 20))
    path = _saved(tmp_path, "a.png", Image.fromarray(np.dstack([RGB, alpha])))
    pixels = decode(path)
    np.testing.assert_array_equal(pixels[:, 0], np.full((40, 3), 255))
    np.testing.assert_array_equal(pixels[:, 2], RGB[:, 2])
    blend = (RGB[:, 1].astype(float) * 128 + 255 * 127) / 255
    np.testing.assert_array_equal(pixels[:, 1], np.floor(blend + 0.5))


def test_a_palette_s_transparency_is_flattened_too(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    pixels = decode(_saved(tmp_path, "a.png", image, transparency=0))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [10, 20, 30]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_exif_orientation_turns_the_image_upright(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    path = _saved(tmp_path, name, Image.fromarray(SMOOTH), exif=exif)
    pixels = decode(path)
    assert pixels.shape == (60, 40, 3)
    assert np.abs(pixels.astype(int) - np.rot90(SMOOTH, -1)).mean() < 8
    verdict = examine(path)
    assert (verdict.width, verdict.height) == (40, 60)
    assert "turned upright" in verdict.notes


def test_a_phone_s_jpeg_with_a_second_picture_is_its_first(tmp_path: Path) -> None:
    first = Image.fromarray(SMOOTH)
    data = _encoded(first, "MPO", save_all=True, append_images=[Image.fromarray(RGB)])
    assert np.abs(decode(_file(tmp_path, "a.jpg", data)).astype(int) - SMOOTH).mean() < 8


def test_broken_exif_does_not_matter(tmp_path: Path) -> None:
    path = _saved(tmp_path, "a.jpg", Image.fromarray(RGB), exif=b"Exif\0\0garbage")
    assert decode(path).shape == RGB.shape


# -- kept apart, for upscaling


def test_alpha_and_colour_are_kept_apart(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, RGB[..., 0]])
    picture = decode_with_alpha(_saved(tmp_path, "a.png", Image.fromarray(rgba)))
    np.testing.assert_array_equal(picture.pixels, RGB)
    np.testing.assert_array_equal(picture.alpha, RGB[..., 0])
    assert not picture.grey


def test_grey_with_alpha_is_known_as_grey(tmp_path: Path) -> None:
    picture = decode_with_alpha(_saved(tmp_path, "a.png", Image.fromarray(RGB).convert("LA")))
    assert picture.grey
    assert picture.alpha is not None


def test_sixteen_bit_grey_with_alpha_is_known_as_grey(tmp_path: Path) -> None:
    deep = RGB[..., :2].astype(np.uint16) * 257
    picture = decode_with_alpha(_file(tmp_path, "a.png", _png(60, 40, 16, 4, _rows(deep))))
    assert picture.grey
    np.testing.assert_array_equal(picture.pixels, RGB[..., :1].repeat(3, -1))
    np.testing.assert_array_equal(picture.alpha, RGB[..., 1])


def test_opaque_colour_has_no_alpha(tmp_path: Path) -> None:
    picture = decode_with_alpha(_saved(tmp_path, "a.png", Image.fromarray(RGB)))
    assert picture.alpha is None
    assert not picture.grey


# -- refused


@pytest.mark.parametrize(
    ("content", "shown"), [(b"hello\nthere", "begins with 'hello th'"), (b"\x00\x01\xff", "begins with 00 01 ff")]
)
def test_how_a_file_begins_that_is_no_image_is_shown_as_a_reader_knows_it(content: bytes, shown: str) -> None:
    with pytest.raises(RefusedError, match=shown):
        identify(content, ".png")


REFUSED = {
    "empty.png": (b"", "empty file"),
    "text.jpg": (b"hello, I am no picture", "not an image"),
    "still.gif": (_encoded(Image.fromarray(RGB), "GIF"), "unsupported format"),
    "cut.png": (_encoded(Image.fromarray(RGB), "PNG")[:3000], "truncated"),
    "cut.jpg": (_encoded(Image.fromarray(RGB), "JPEG")[:-200], "truncated"),
    "cut.bmp": (_encoded(Image.fromarray(RGB), "BMP")[:3000], "truncated"),
    "cut.tif": (_encoded(Image.fromarray(RGB), "TIFF")[:3000], "truncated"),
    "cut.webp": (_encoded(Image.fromarray(RGB), "WEBP")[:600], "damaged"),
    "pages.tif": (
        _encoded(Image.fromarray(RGB), "TIFF", save_all=True, append_images=[Image.fromarray(SMOOTH)]),
        "several frames",
    ),
    "moving.webp": (
        _encoded(Image.fromarray(RGB), "WEBP", save_all=True, append_images=[Image.fromarray(SMOOTH)]),
        "several frames",
    ),
    "moving.png": (
        _encoded(Image.fromarray(RGB), "PNG", save_all=True, append_images=[Image.fromarray(SMOOTH)]),
        "several frames",
    ),
    "bomb.png": (_png(60000, 60000, 8, 2, b"\0"), "too many pixels"),
    "large.png": (_png(10000, 10000, 8, 2, b"\0"), "too many pixels"),
    "integers.tif": (_encoded(Image.fromarray(RGB[..., 0].astype(np.int32)), "TIFF"), "unsupported depth"),
    "floats.tif": (_encoded(Image.fromarray(RGB[..., 0].astype(np.float32)), "TIFF"), "unsupported depth"),
    "invisible.png": (_encoded(Image.fromarray(np.dstack([RGB, RGB[..., 0] * 0])), "PNG"), "fully transparent"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named_with_its_reason(tmp_path: Path, name: str) -> None:
    data, kind = REFUSED[name]
    path = _file(tmp_path, name, data)
    verdict = examine(path)
    assert verdict.kind == kind
    assert verdict.detail
    assert verdict.size == len(data)
    with pytest.raises(DataError, match=f"{name}: {kind}: "):
        decode(path)


def test_a_flipped_byte_in_a_png_is_noticed(tmp_path: Path) -> None:
    data = bytearray(_encoded(Image.fromarray(RGB), "PNG"))
    data[len(data) // 2] ^= 16
    assert examine(_file(tmp_path, "a.png", bytes(data))).kind == "damaged"


def test_a_flipped_byte_in_a_jpeg_changes_the_content_hash(tmp_path: Path) -> None:
    data = bytearray(_encoded(Image.fromarray(RGB), "JPEG"))
    before = examine(_file(tmp_path, "a.jpg", bytes(data)))
    data[-100] ^= 1
    after = examine(_file(tmp_path, "a.jpg", bytes(data)))
    assert before.kind is after.kind is None
    assert before.sha256 != after.sha256


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", deny)  # root, as in CI, may read every file
    verdict = examine(_saved(tmp_path, "a.png", Image.fromarray(RGB)))
    assert (verdict.kind, verdict.detail) == ("unreadable", "Permission denied")


def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert examine(tmp_path / "pipe.png").kind == "unreadable"


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    assert examine(tmp_path / "a.png").kind == "unreadable"
    with pytest.raises(DataError, match=r"a\.png: unreadable: No such file"):
        decode(tmp_path / "a.png")


def test_the_limit_on_pixels_is_inclusive_and_can_be_changed(tmp_path: Path) -> None:
    path = _saved(tmp_path, "a.png", Image.fromarray(RGB))
    assert decode_with_alpha(path, max_pixels=2400).pixels.shape == RGB.shape
    with pytest.raises(DataError, match="60x40"):
        decode_with_alpha(path, max_pixels=2399)


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    bomb = _file(tmp_path, "a.png", _png(10000, 10000, 8, 0, b"\0" * 10001 * 10000))
    assert bomb.stat().st_size < 300_000 < MAX_PIXELS
    code = (
        "import resource, sys; from pathlib import Path; from sisr.data.images import examine\n"
        "import PIL.Image; PIL.Image.init()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(examine(Path(sys.argv[1]))[0].kind, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    said = subprocess.run([sys.executable, "-c", code, str(bomb)], capture_output=True, text=True, check=True).stdout
    kind, grown_kib = said.rsplit(maxsplit=1)
    assert kind == "too many pixels"
    assert int(grown_kib) < 100_000


def test_a_bomb_is_told_our_limit_and_not_pillow_s(tmp_path: Path) -> None:
    bomb = _file(tmp_path, "a.png", _png(60000, 60000, 8, 2, b"\0"))
    with pytest.raises(DataError, match="60000x60000; at most 1 million"):
        decode_with_alpha(bomb, max_pixels=1_000_000)


def test_neither_good_nor_bad_files_make_pillow_warn(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, (data, kind) in REFUSED.items():
            assert examine(_file(tmp_path, name, data)).kind == kind


def test_no_file_is_left_open(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.png", REFUSED["cut.png"][0])
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        examine(path)
        with pytest.raises(DataError):
            decode(path)
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)
