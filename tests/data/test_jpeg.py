"""JPEG on tensors against Pillow's libjpeg: files written and read, to the grey level."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from sisr.data.degradations.jpeg import CHROMA_STEPS, LUMA_STEPS, jpeg, steps

PHOTOGRAPH = data.astronaut()
QUALITIES = (1, 10, 30, 31, 49, 50, 51, 60, 75, 83, 90, 95, 100)
SIZES = ((64, 64), (48, 80), (37, 53), (16, 17), (17, 16), (8, 8), (9, 3), (3, 9), (1, 1), (2, 5), (33, 4), (40, 5))


def through_a_file(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(io.BytesIO(file.getvalue())))


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255


def levels(images: torch.Tensor) -> np.ndarray:
    return (images[0] * 255).round().permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_photograph_comes_out_as_from_libjpeg(quality: int) -> None:
    pixels = PHOTOGRAPH[100:228, 180:341]
    assert np.array_equal(levels(jpeg(tensor(pixels), [quality])), through_a_file(pixels, quality))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size_comes_out_as_from_libjpeg(height: int, width: int) -> None:
    pixels = PHOTOGRAPH[20 : 20 + height, 200 : 200 + width]
    for quality in (30, 62, 95):
        assert np.array_equal(levels(jpeg(tensor(pixels), [quality])), through_a_file(pixels, quality))


def test_noise_and_hard_colours_come_out_as_from_libjpeg() -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    corners = random.choice(np.array([0, 255], dtype=np.uint8), (40, 56, 3))
    for pixels in (noise, corners):
        for quality in (30, 55, 95):
            assert np.abs(levels(jpeg(tensor(pixels), [quality])) - through_a_file(pixels, quality)).max() <= 1


def test_each_image_of_a_batch_has_its_own_quality() -> None:
    batch = torch.cat([tensor(PHOTOGRAPH[y : y + 40, y : y + 56]) for y in (0, 100, 200)])
    whole = jpeg(batch, [30, 70, 95])
    each = [jpeg(image[None], [quality]) for image, quality in zip(batch, (30, 70, 95), strict=True)]
    assert torch.equal(whole, torch.cat(each))


def test_steps_are_those_that_pillow_writes() -> None:
    for quality in (1, 30, 50, 77, 100):
        file = io.BytesIO()
        Image.fromarray(PHOTOGRAPH[:8, :8]).save(file, "JPEG", quality=quality)
        written = Image.open(io.BytesIO(file.getvalue())).quantization  # type: ignore[attr-defined]
        for place, base in enumerate((LUMA_STEPS, CHROMA_STEPS)):
            assert sorted(written[place]) == sorted(step for row in steps(base, quality) for step in row)


def test_a_quality_that_libjpeg_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="wants 1 qualities of 1 to 100, got \\[101\\]"):
        jpeg(torch.rand(1, 3, 8, 8), [101])
