"""SSIM against scikit-image's implementation with the gaussian window."""

from functools import partial

import pytest
import torch
from skimage.metrics import structural_similarity

from sisr.metrics.catalogue import METRICS
from sisr.metrics.planes import luma, measure
from sisr.metrics.ssim import ssim

ssim_y, ssim_rgb = partial(measure, METRICS["ssim_y"]), partial(measure, METRICS["ssim_rgb"])


def noisy_pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hr = torch.rand(*shape, generator=generator, dtype=torch.float64)
    return hr + 0.1 * torch.randn(*shape, generator=generator, dtype=torch.float64), hr


def reference(sr: torch.Tensor, hr: torch.Tensor) -> float:
    return structural_similarity(
        sr.numpy(), hr.numpy(), data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )


def test_ssim_y_equals_scikit_image():
    sr, hr = noisy_pair(1, 3, 24, 31)
    assert ssim_y(sr, hr, 0).item() == pytest.approx(reference(luma(sr)[0, 0], luma(hr)[0, 0]), abs=1e-10)


def test_ssim_rgb_is_the_mean_over_channels():
    sr, hr = noisy_pair(1, 3, 20, 20)
    each = [reference(255 * sr[0, c], 255 * hr[0, c]) for c in range(3)]
    assert ssim_rgb(sr, hr, 0).item() == pytest.approx(sum(each) / 3, abs=1e-10)


def test_the_border_is_cut_before_the_window_slides():
    sr, hr = noisy_pair(1, 3, 24, 24)
    cut = reference(luma(sr)[0, 0, 4:-4, 4:-4], luma(hr)[0, 0, 4:-4, 4:-4])
    assert ssim_y(sr, hr, 4).item() == pytest.approx(cut, abs=1e-10)


def test_equal_images_have_ssim_one():
    _, hr = noisy_pair(2, 3, 16, 16)
    assert ssim_y(hr, hr, 2).tolist() == pytest.approx([1, 1])


def test_ssim_is_symmetric():
    sr, hr = noisy_pair(1, 3, 16, 16)
    torch.testing.assert_close(ssim_y(sr, hr, 0), ssim_y(hr, sr, 0))


def test_each_image_has_its_own_value():
    sr, hr = noisy_pair(3, 3, 16, 16)
    single = torch.cat([ssim_rgb(sr[i : i + 1], hr[i : i + 1], 1) for i in range(3)])
    torch.testing.assert_close(ssim_rgb(sr, hr, 1), single)


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(torch.zeros(1, 1, 18, 40), torch.zeros(1, 1, 18, 40), 4)
