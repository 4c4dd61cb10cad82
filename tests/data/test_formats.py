"""What Pillow would guess of a file, or refuse it for, is converted exactly, noted, or refused by name."""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sisr.data.formats import RefusedError
from sisr.data.images import Picture, decode_with_alpha

RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
WIDE = np.random.default_rng(1).integers(0, 65536, (4, 6), dtype=np.uint16)


def chunk(kind: bytes, data: bytes, *, sound: bool = True) -> bytes:
    checksum = zlib.crc32(kind + data) ^ (not sound)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(rows: Any, depth: int, colour_type: int, *before: bytes, after: bytes = b"") -> bytes:
    """A PNG written by hand, from rows of bytes or of numbers, with chunks before and behind its pixels."""
    lines = [row if isinstance(row, bytes) else row.astype(row.dtype.newbyteorder(">")).tobytes() for row in rows]
    width = 6 if not isinstance(rows[0], bytes) else len(rows[0]) * 8 // depth
    header = struct.pack(">IIBBBBB", width, len(lines), depth, colour_type, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(before) + pixels + after + chunk(b"IEND", b"")


def tiff(pixels: bytes, width: int, height: int, bits: Sequence[int], photometric: int | None, **more: Any) -> bytes:
    """A little-endian TIFF of one strip, written by hand; `more` are tags, as t266=2."""
    tags: dict[int, Sequence[int]] = {256: [width], 257: [height], 258: bits, 259: [1], 277: [len(bits)]}
    tags |= {278: [height], 273: [8], 279: [len(pixels)]} | ({} if photometric is None else {262: [photometric]})
    tags |= {int(name[1:]): value if isinstance(value, list) else [value] for name, value in more.items()}
    start = 8 + len(pixels) + len(pixels) % 2
    entries, outside, end = b"", b"", start + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}H", *values)
        if len(packed) > 4:
            place, outside = struct.pack("<I", end + len(outside)), outside + packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, 3, len(values)) + place
    directory = struct.pack("<H", len(tags)) + entries + bytes(4) + outside
    return b"II*\0" + struct.pack("<I", start) + pixels.ljust(start - 8, b"\0") + directory


def twelve_bits(samples: np.ndarray) -> bytes:
    """Samples of 12 bits, two in three bytes."""
    pairs = samples.reshape(-1, 2).astype(int)
    return bytes(b for a, c in pairs for b in (a >> 4, (a & 15) << 4 | c >> 8, c & 255))


def to_8_bits(samples: np.ndarray, largest: int) -> np.ndarray:
    return np.floor(samples / largest * 255 + 0.5)


# -- pixels


def test_twelve_bit_grey_keeps_its_brightness() -> None:
    samples = WIDE >> 4
    picture = decode_with_alpha(tiff(twelve_bits(samples), 6, 4, [12], 1))
    np.testing.assert_array_equal(picture.pixels[..., 0], to_8_bits(samples, 4095))
    assert picture.notes == ("I;16 converted", "12 bits reduced to 8")


def test_sixteen_bit_grey_whose_0_is_white_is_no_negative() -> None:
    picture = decode_with_alpha(tiff(WIDE.tobytes(), 6, 4, [16], 0))
    np.testing.assert_array_equal(picture.pixels[..., 0], to_8_bits(65535 - WIDE.astype(int), 65535))


def test_eight_bit_grey_whose_0_is_white_is_no_negative() -> None:
    picture = decode_with_alpha(tiff(RGB[..., 0].tobytes(), 6, 4, [8], 0))
    np.testing.assert_array_equal(picture.pixels[..., 0], 255 - RGB[..., 0])


def test_colours_in_separate_planes_are_put_together() -> None:
    planes = RGB.transpose(2, 0, 1).tobytes()
    content = tiff(planes, 6, 4, [8] * 3, 2, t284=2, t273=[8, 32, 56], t279=[24] * 3)
    np.testing.assert_array_equal(decode_with_alpha(content).pixels, RGB)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(bytes(24), 6, 4, [8], None), "does not say what its samples mean"),
        (tiff(bytes(96), 6, 4, [8] * 4, 2), "does not say what the samples beyond the colours mean"),
        (tiff(bytes(96), 6, 4, [8] * 4, 2, t338=999), "unknown extra samples .*ExtraSamples.*999"),
        (tiff(bytes(24), 6, 4, [8], 1, t339=2), r"not unsigned numbers \(BitsPerSample \(8,\), .*SampleFormat \(2,\)"),
        (tiff(bytes(48), 6, 4, [16], 1, t339=2), "not unsigned numbers .*16"),
        (tiff(bytes(144), 6, 4, [16] * 3, 2, t284=2, t273=[8, 56, 104], t279=[48] * 3), "a plane of its own"),
        (tiff(bytes(48), 6, 4, [16], 1, t266=2), "bits of each byte are reversed"),
        (tiff(bytes(96), 6, 4, [8] * 4, 5, t332=2), "inks are not cyan"),
        (tiff(bytes(48), 6, 4, [10], 1), "unknown pixel mode"),
        (tiff(bytes(72), 6, 4, [8] * 3, 8), "LAB colours; save RGB"),
    ],
)  # fmt: skip
def test_a_tiff_that_would_have_to_be_guessed_is_refused_by_what_it_is(content: bytes, reason: str) -> None:
    with pytest.raises(RefusedError, match=f"unsupported pixels: .*{reason}"):
        decode_with_alpha(content)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_is_found_at_every_depth(depth: int) -> None:
    samples = np.arange(16) % 2**depth if depth < 16 else np.arange(16) + 0x7F00
    bits = "".join(f"{sample:0{depth}b}" for sample in samples)
    row = int(bits, 2).to_bytes(len(bits) // 8)
    transparent = int(samples[1])
    picture = decode_with_alpha(png([row], depth, 0, chunk(b"tRNS", struct.pack(">H", transparent))))
    np.testing.assert_array_equal(alpha(picture)[0], np.where(samples == transparent, 0, 255))
    np.testing.assert_array_equal(picture.pixels[0, :, 0], to_8_bits(samples, 2**depth - 1))
    assert picture.grey
    assert "transparency flattened" in picture.notes


def test_a_transparent_colour_is_found() -> None:
    transparent = chunk(b"tRNS", struct.pack(">3H", *RGB[1, 2]))
    picture = decode_with_alpha(png(RGB, 8, 2, transparent))
    assert [list(place) for place in np.argwhere(alpha(picture) == 0)] == [[1, 2]]
    np.testing.assert_array_equal(picture.pixels, RGB)


def test_a_transparent_colour_of_48_bits_is_refused_by_name() -> None:
    deep = RGB.astype(np.uint16) * 257
    with pytest.raises(RefusedError, match=r"unsupported pixels: 48 bits with a transparent colour \(tRNS\)"):
        decode_with_alpha(png(deep, 16, 2, chunk(b"tRNS", bytes(6))))


def alpha(picture: Picture) -> np.ndarray:
    assert picture.alpha is not None
    return picture.alpha


def oriented(orientation: Any, file_format: str) -> Picture:
    exif = Image.Exif()
    exif[0x0112] = orientation if isinstance(orientation, int) else 1
    content = exif.tobytes()
    if not isinstance(orientation, int):  # four letters, where a number belongs
        content = content.replace(struct.pack("<HHI", 0x0112, 3, 1), struct.pack("<HHI", 0x0112, 2, 4))
        content = content.replace(b"\1\0\0\0\0\0\0\0", orientation.encode() + bytes(4))
    file = io.BytesIO()
    options = {"lossless": True} if file_format == "WEBP" else {}
    Image.fromarray(RGB).save(file, file_format, exif=content, **options)
    return decode_with_alpha(file.getvalue())


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_each_orientation_is_turned_upright_as_exif_says(file_format: str) -> None:
    upright = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.swapaxes(0, 1), 6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(RGB),
    }  # fmt: skip
    for orientation, expected in upright.items():
        np.testing.assert_array_equal(oriented(orientation, file_format).pixels, expected)


@pytest.mark.parametrize("orientation", [0, 9, "left"])
def test_an_orientation_that_says_nothing_is_not_noted_as_turned(orientation: Any) -> None:
    picture = oriented(orientation, "PNG")
    assert picture.notes == ()
    np.testing.assert_array_equal(picture.pixels, RGB)


def test_transparency_is_turned_with_its_colours() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    transparent = chunk(b"tRNS", struct.pack(">3H", *RGB[1, 2]))
    picture = decode_with_alpha(png(RGB, 8, 2, transparent, chunk(b"eXIf", exif.tobytes()[6:])))
    assert [list(place) for place in np.argwhere(alpha(picture) == 0)] == [[2, 2]]
    np.testing.assert_array_equal(picture.pixels, np.rot90(RGB, -1))


# -- side data

PROFILE = b"\0" * 16 + b"RGB " + b"\0" * (2 << 20)
SIDE = {
    "iCCP above 1 MB": (chunk(b"iCCP", b"huge\0\0" + zlib.compress(PROFILE)), "iCCP"),
    "iCCP with a bad checksum": (chunk(b"iCCP", b"x\0\0" + zlib.compress(PROFILE[:99]), sound=False), "iCCP"),
    "iCCP of another compression": (chunk(b"iCCP", b"x\0\7"), "iCCP"),
    "zTXt above 1 MB": (chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2 << 20))), "zTXt"),
    "iTXt above 1 MB": (chunk(b"iTXt", b"x\0\1\0\0\0" + zlib.compress(bytes(2 << 20))), "iTXt"),
    "eXIf that is none": (chunk(b"eXIf", b"garbage"), "eXIf"),
    "tEXt with a bad checksum": (chunk(b"tEXt", b"Comment\0hello", sound=False), "tEXt"),
    "short pHYs": (chunk(b"pHYs", b"1"), "pHYs"),
    "short gAMA": (chunk(b"gAMA", b""), "gAMA"),
}  # fmt: skip


@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize("name", SIDE)
def test_side_data_that_can_t_be_read_is_left_out_with_a_note(name: str, behind: bool) -> None:
    piece, kind = SIDE[name]
    content = png(RGB, 8, 2, after=piece) if behind else png(RGB, 8, 2, piece)
    picture = decode_with_alpha(content)
    np.testing.assert_array_equal(picture.pixels, RGB)
    assert picture.notes == (f"{kind} can't be read: left out",)


def test_other_side_data_is_kept_when_some_can_t_be_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(PROFILE[:99]))
    content = png(RGB, 8, 2, SIDE["tEXt with a bad checksum"][0], chunk(b"eXIf", exif.tobytes()[6:]), profile)
    picture = decode_with_alpha(content)
    np.testing.assert_array_equal(picture.pixels, np.rot90(RGB, -1))
    assert picture.icc == PROFILE[:99]


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_malformed_exif_does_not_refuse_a_picture(file_format: str, exif: bytes) -> None:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, file_format, exif=exif)
    assert decode_with_alpha(file.getvalue()).pixels.shape == RGB.shape


def test_a_profile_of_other_colours_is_not_kept() -> None:
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\0" * 16 + b"CMYK" + b"\0" * 99))
    assert decode_with_alpha(png(RGB, 8, 2, profile)).icc is None


# -- refused by name


def test_a_png_cut_before_its_pixels_is_truncated() -> None:
    content = png(RGB, 8, 2, chunk(b"tEXt", b"Comment\0hello"))
    for length in (10, 40, 60):
        with pytest.raises(RefusedError, match=r"truncated: \d+ bytes, and no pixels yet"):
            decode_with_alpha(content[:length])


def test_a_png_copied_as_text_is_damaged() -> None:
    with pytest.raises(RefusedError, match="damaged: the signature of PNG"):
        decode_with_alpha(png(RGB, 8, 2).replace(b"\r\n", b"\n"))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"GIF89a\1\0\1\0", "GIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS\0\1", "Photoshop"),
        (b"P6\n2 2\n255\n", "PNM"),
        (b"<!DOCTYPE html>", "SVG or HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
    ],
)
def test_another_format_is_refused_by_its_name(content: bytes, name: str) -> None:
    with pytest.raises(RefusedError, match=f"unsupported format: {name}; PNG, JPEG, WebP, AVIF, BMP and TIFF are read"):
        decode_with_alpha(content)


def test_a_format_without_signature_is_known_by_its_suffix(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.tga")
    with pytest.raises(RefusedError, match=r"a\.tga: unsupported format: TGA"):
        decode_with_alpha(tmp_path / "a.tga")


def test_a_jpeg_of_twelve_bits_is_refused_by_name() -> None:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "JPEG")
    content = bytearray(file.getvalue())
    content[content.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(RefusedError, match="unsupported pixels: cannot handle 12-bit layers"):
        decode_with_alpha(bytes(content))
