"""Image files written strip by strip, read back by Pillow."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, JpegImagePlugin

from sisr.data.writing import Aside, Saving, written
from sisr.errors import DataError, DiskError


def smooth(height: int, width: int, channels: int) -> np.ndarray:
    """Return a picture in which each filter of PNG is the best one somewhere."""
    y, x, c = np.mgrid[:height, :width, :channels]
    noise = np.random.default_rng(0).integers(0, 9, (height, width, channels))
    return ((3 * x + 5 * y * (x > width // 2) + 20 * c + noise * (y > height // 2)) % 256).astype(np.uint8)


def save(path, image, strip_rows=7, **options):
    height, width, channels = image.shape
    with written(path, width, height, channels, **options) as writer:
        for start in range(0, height, strip_rows):
            writer.write(image[start : start + strip_rows])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("strip_rows", [1, 7, 200])
def test_png_reads_back_as_written(tmp_path, channels, strip_rows):
    image = smooth(150, 33, channels)
    save(tmp_path / "x.png", image, strip_rows)
    with Image.open(tmp_path / "x.png") as read:
        assert read.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        assert np.array_equal(np.asarray(read).reshape(image.shape), image)


def test_png_is_hardly_larger_than_pillows(tmp_path):
    y, x = np.mgrid[:200, :300]
    image = (128 + 60 * np.sin(x / 17) + 60 * np.cos(y / 23))[..., None].repeat(3, axis=2).astype(np.uint8)
    save(tmp_path / "x.png", image)
    pillow = io.BytesIO()
    Image.fromarray(image).save(pillow, format="PNG")
    assert (tmp_path / "x.png").stat().st_size < 1.1 * pillow.tell()


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp", ".avif"])
def test_lossy_formats_read_back_nearly_as_written(tmp_path, suffix):
    y, x = np.mgrid[:64, :48]
    image = np.stack([2 * x, 3 * y, x + y], axis=2).astype(np.uint8)
    save(tmp_path / f"x{suffix}", image)
    with Image.open(tmp_path / f"x{suffix}") as read:
        assert np.abs(np.asarray(read).astype(int) - image).mean() < 3


def test_webp_keeps_grey_and_alpha_as_rgba(tmp_path):
    image = np.stack([np.full((16, 16), 90), np.tile(np.arange(16) * 16, (16, 1))], axis=2).astype(np.uint8)
    save(tmp_path / "x.webp", image)
    with Image.open(tmp_path / "x.webp") as read:
        assert read.mode == "RGBA"
        assert np.array_equal(np.asarray(read)[..., 3], image[..., 1])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif"])
def test_the_colour_profile_is_embedded(tmp_path, suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save(tmp_path / f"x{suffix}", smooth(8, 8, 3), aside=Aside(profile))
    with Image.open(tmp_path / f"x{suffix}") as read:
        assert read.info["icc_profile"] == profile


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "x.png").write_bytes(b"old")
    with pytest.raises(RuntimeError), written(tmp_path / "x.png", 8, 8, 3) as writer:  # noqa: PT012
        writer.write(smooth(4, 8, 3))
        raise RuntimeError
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x.png", b"old")]


STRIPES = np.tile(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8), (32, 16, 1))


@pytest.mark.parametrize(
    ("saving", "layers"),
    [
        (Saving(), "4:4:4"),
        (Saving(100), "4:4:4"),
        (Saving(90), "4:4:4"),
        (Saving(89), "4:2:0"),
        (Saving(100, "420"), "4:2:0"),
        (Saving(50, "444"), "4:4:4"),
    ],
)
def test_jpeg_keeps_colours_in_full_resolution_from_quality_90_or_as_asked_for(tmp_path, saving, layers):
    save(tmp_path / "x.jpg", STRIPES, saving=saving)
    with Image.open(tmp_path / "x.jpg") as read:
        assert {0: "4:4:4", 2: "4:2:0"}[JpegImagePlugin.get_sampling(read)] == layers


def test_jpeg_of_quality_100_shows_stripes_of_one_pixel(tmp_path):
    save(tmp_path / "x.jpg", STRIPES, saving=Saving(100))
    with Image.open(tmp_path / "x.jpg") as read:
        assert np.abs(np.asarray(read).astype(int) - STRIPES).mean() < 2


@pytest.mark.parametrize("channels", [3, 4])
def test_webp_of_quality_100_loses_nothing(tmp_path, channels):
    image = smooth(40, 33, channels)
    save(tmp_path / "x.webp", image, saving=Saving(100))
    with Image.open(tmp_path / "x.webp") as read:
        assert np.array_equal(np.asarray(read), image)


@pytest.mark.parametrize("length", [246, 255])
def test_a_name_as_long_as_the_file_system_takes_is_written(tmp_path, length):
    name = "x" * (length - 4) + ".png"
    save(tmp_path / name, smooth(8, 8, 3))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "size", "channels", "reason"),
    [
        ("x.tiff", (8, 8), 3, "can't write '.tiff'; written are .png"),
        ("x.webp", (16_384, 8), 3, "at most 16383 px a side, not 16384x8; write .png"),
        ("x.jpg", (8, 65_501), 3, "at most 65500 px a side"),
        ("x.jpg", (8, 8), 4, "JPEG holds no transparency"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, name, size, channels, reason):
    with pytest.raises(DataError, match=reason), written(tmp_path / name, size[0], size[1], channels):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file/x.png", "folder.png"])
def test_a_place_that_can_not_be_written_is_named(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DiskError, match=f"{place} can't be written: .*; choose another --output"):
        save(tmp_path / place, smooth(8, 8, 3))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.png"]
