"""MATLAB's bicubic: against its own files, against numbers worked out by hand, against itself."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sisr.data.bicubic import contributions, downscale, resize, upscale


def _read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.data
@pytest.mark.parametrize("folder", ["LRx2_matlab_mirror", "LRx3_matlab_mirror", "LRx4_matlab_mirror"])
def test_shrinks_set5_as_matlab_does_bit_for_bit(shared_data: Path, folder: str) -> None:
    _assert_equals_matlab(shared_data / "Set5", folder, "mirror")


@pytest.mark.data
def test_shrinks_set5_as_older_matlab_does_bit_for_bit(shared_data: Path) -> None:
    _assert_equals_matlab(shared_data / "Set5", "LRx4_matlab_replicate", "replicate")


def _assert_equals_matlab(set5: Path, folder: str, border: str) -> None:
    scale = int(folder[3])
    files = sorted((set5 / folder).glob("*.png"))
    assert len(files) == 5
    for file in files:
        hr = _read(set5 / "HR" / file.name)
        height, width = (side // scale * scale for side in hr.shape[:2])
        lr = resize(hr[:height, :width], Fraction(1, scale), border=border)  # type: ignore[arg-type]
        np.testing.assert_array_equal(lr, _read(file), err_msg=file.name)


def test_an_unknown_border_is_refused() -> None:
    with pytest.raises(ValueError, match="'reflect'"):
        contributions(16, Fraction(1, 2), "reflect")  # type: ignore[arg-type]


def test_halving_weighs_neighbours_as_worked_out_by_hand() -> None:
    # Distances 1/4, 3/4, 5/4, 7/4 of the kernel's own unit, halved: cubic(d) / 2.
    index, weights = contributions(16, Fraction(1, 2), "mirror")
    row = dict(zip(index[4].tolist(), weights[4].tolist(), strict=True))
    expected = {8: 0.43359375, 7: 0.11328125, 6: -0.03515625, 5: -0.01171875}
    for i, weight in expected.items():
        assert row[i] == weight
        assert row[17 - i] == weight  # symmetric about 8.5


def test_doubling_weighs_neighbours_as_worked_out_by_hand() -> None:
    # The first of each pair lies 1/4 pixel before its centre: cubic at 1/4, 3/4, 5/4, 7/4.
    index, weights = contributions(8, Fraction(2), "mirror")
    row = dict(zip(index[9].tolist(), weights[9].tolist(), strict=True))
    assert row == {3: -0.0703125, 4: 0.8671875, 5: 0.2265625, 6: -0.0234375}


def test_mirror_repeats_the_edge_pixel_and_replicate_goes_on_repeating_it() -> None:
    mirror, _ = contributions(8, Fraction(1, 2), "mirror")
    replicate, _ = contributions(8, Fraction(1, 2), "replicate")
    assert mirror[0].tolist() == [2, 1, 0, 0, 1, 2, 3, 4]
    assert replicate[0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("scale", [Fraction(1, 4), Fraction(1, 3), Fraction(2, 3), Fraction(1), 2, 3, 1.5, 0.3])
def test_constant_stays_constant(scale: float) -> None:
    image = np.full((13, 17, 3), 93, np.uint8)
    resized = resize(image, scale)
    assert (resized == 93).all()
    assert resized.shape == (*(-(-n * Fraction(scale).limit_denominator(99) // 1) for n in (13, 17)), 3)


def test_scale_one_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(image, 1), image)


def test_a_third_as_float_gives_the_size_of_a_third_as_fraction() -> None:
    image = np.random.default_rng(0).integers(0, 256, (258, 3), dtype=np.uint8)
    assert resize(image, 1 / 3).shape == resize(image, Fraction(1, 3)).shape == (86, 1)


def test_eight_bits_are_rounded_and_clipped_after_each_axis_height_first() -> None:
    image = np.random.default_rng(1).integers(0, 2, (16, 16), dtype=np.uint8) * 255
    wide = image.astype(float)
    tall = np.clip(np.floor(resize(wide, Fraction(1, 2))[:, :] + 0.5), 0, 255)  # rounded once: not what MATLAB does
    index, weights = contributions(16, Fraction(1, 2), "mirror")
    rows = np.clip(np.floor((weights[:, :, None] * wide[index]).sum(1) + 0.5), 0, 255)
    both = np.clip(np.floor((weights[:, :, None] * rows.T[index]).sum(1).T + 0.5), 0, 255)
    np.testing.assert_array_equal(resize(image, Fraction(1, 2)), both)
    assert (tall != both).any()


def test_floating_point_is_neither_rounded_nor_clipped() -> None:
    step = np.repeat([0.0, 1.0], 8)[None].repeat(4, 0)
    grown = resize(step.astype(np.float32), 4)
    assert grown.dtype == np.float64
    assert grown.min() < 0
    assert grown.max() > 1


def test_an_image_smaller_than_the_kernel_is_mirrored_as_often_as_needed() -> None:
    assert resize(np.full((1, 2), 7, np.uint8), 4).tolist() == [[7] * 8] * 4


@pytest.mark.parametrize(
    ("image", "scale"),
    [(np.zeros((2, 2), np.int32), 2), (np.zeros(4, np.uint8), 2), (np.zeros((0, 2), np.uint8), 2)],
)
def test_what_is_no_image_is_refused(image: np.ndarray, scale: int) -> None:
    with pytest.raises(ValueError, match="resize wants"):
        resize(image, scale)


@pytest.mark.parametrize("scale", [0, -2])
def test_a_scale_that_is_not_positive_is_refused(scale: int) -> None:
    with pytest.raises(ValueError, match="positive scale"):
        resize(np.zeros((4, 4), np.uint8), scale)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("side", [8, 24, 48])
def test_batches_are_resampled_as_single_images_are(scale: int, side: int) -> None:
    hr = torch.rand(2, 3, side, side * 2, dtype=torch.float64, generator=torch.Generator().manual_seed(side))
    if side % scale == 0:
        expected = np.stack([resize(x.permute(1, 2, 0).numpy(), Fraction(1, scale)) for x in hr])
        torch.testing.assert_close(downscale(hr, scale).permute(0, 2, 3, 1).numpy(), expected, rtol=0, atol=1e-12)
    expected = np.stack([resize(x.permute(1, 2, 0).numpy(), scale) for x in hr])
    torch.testing.assert_close(upscale(hr, scale).permute(0, 2, 3, 1).numpy(), expected, rtol=0, atol=1e-12)


def test_resampling_keeps_type_and_full_precision_under_autocast() -> None:
    hr = torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        lr = downscale(hr, 4)
        sr = upscale(lr, 4)
    assert lr.dtype == sr.dtype == torch.float32
    torch.testing.assert_close(lr, downscale(hr, 4), rtol=0, atol=0)
    assert upscale(lr.bfloat16(), 4).dtype == torch.bfloat16


def test_gradients_pass_through_resampling() -> None:
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: upscale(t, 2), x)
    assert torch.autograd.gradcheck(lambda t: downscale(t, 3), x)


def test_resampling_first_met_in_inference_mode_still_trains() -> None:
    with torch.inference_mode():
        upscale(torch.rand(1, 1, 5, 5), 3)
    x = torch.rand(1, 1, 5, 5, requires_grad=True)
    upscale(x, 3).sum().backward()
    assert x.grad is not None


def test_sides_that_are_no_multiple_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples"):
        downscale(torch.rand(1, 3, 10, 8), 4)
