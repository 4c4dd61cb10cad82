"""PSNR against numbers worked out by hand and scikit-image."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio

from sisr.metrics.catalogue import METRICS
from sisr.metrics.planes import luma, measure
from sisr.metrics.psnr import psnr

psnr_y, psnr_rgb = partial(measure, METRICS["psnr_y"]), partial(measure, METRICS["psnr_rgb"])


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_an_error_of_one_grey_level_is_48_decibels():
    hr = torch.full((1, 3, 8, 8), 100 / 255, dtype=torch.float64)
    assert psnr_rgb(hr + 1 / 255, hr, 0).item() == pytest.approx(20 * math.log10(255))


def test_equal_images_have_infinite_psnr():
    hr = random_images(2, 3, 8, 8)
    assert psnr_y(hr, hr, 2).tolist() == [math.inf, math.inf]


def test_psnr_rgb_equals_scikit_image():
    sr, hr = random_images(1, 3, 16, 20), random_images(1, 3, 16, 20, seed=1)
    reference = peak_signal_noise_ratio(hr[0].numpy(), sr[0].numpy(), data_range=1)
    assert psnr_rgb(sr, hr, 0).item() == pytest.approx(reference, abs=1e-9)


def test_luma_equals_scikit_image():
    rgb = random_images(1, 3, 5, 7)
    reference = rgb2ycbcr(rgb[0].permute(1, 2, 0).numpy())[..., 0]
    np.testing.assert_allclose(luma(rgb)[0, 0].numpy(), reference, atol=1e-9)


def test_black_is_16_and_white_235():
    extremes = torch.stack([torch.zeros(3, 1, 1), torch.ones(3, 1, 1)])
    assert luma(extremes).flatten().tolist() == pytest.approx([16, 235])


def test_psnr_y_sees_only_luma():
    """A change that luma's weights cancel is invisible."""
    hr = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
    sr = hr.clone()
    sr[:, 0] += 0.1 / 65.481
    sr[:, 1] -= 0.1 / 128.553
    assert psnr_y(sr, hr, 0).item() > 250
    assert psnr_rgb(sr, hr, 0).item() < 70


def test_errors_in_the_border_do_not_count():
    hr = random_images(1, 3, 9, 9)
    sr = hr.clone()
    sr[..., :2, :] = 0
    sr[..., -2:] = 1
    assert psnr_y(sr, hr, 2).item() == math.inf
    assert psnr_y(sr, hr, 1).item() < 40


def test_each_image_has_its_own_value():
    sr, hr = random_images(3, 3, 8, 8), random_images(3, 3, 8, 8, seed=1)
    single = torch.cat([psnr_y(sr[i : i + 1], hr[i : i + 1], 1) for i in range(3)])
    torch.testing.assert_close(psnr_y(sr, hr, 1), single)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        psnr(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5), 0)


def test_a_border_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="leaves nothing"):
        psnr_y(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), 4)
