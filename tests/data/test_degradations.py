"""Degradations: against torch's and scipy-free formulas of their own, and their invariances."""

import math

import numpy as np
import pytest
import torch

from sisr.data.degradations import area, bicubic, gaussian_blur, quantise


def test_area_is_the_mean_of_blocks() -> None:
    hr = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert area(hr, 2).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]


@pytest.mark.parametrize("degrade", [area, bicubic])
def test_sides_that_are_no_multiple_are_refused(degrade) -> None:
    with pytest.raises(ValueError, match="multiples"):
        degrade(torch.rand(1, 3, 9, 8), 4)


@pytest.mark.parametrize("degrade", [area, bicubic])
def test_degrading_commutes_with_flipping(degrade) -> None:
    hr = torch.rand(2, 3, 16, 24, dtype=torch.float64)
    torch.testing.assert_close(degrade(hr.flip(-1), 4), degrade(hr, 4).flip(-1))


def test_each_image_is_blurred_by_its_own_sigma() -> None:
    hr = torch.zeros(3, 1, 41, 41, dtype=torch.float64)
    hr[:, :, 20, 20] = 1
    sigmas = [0.3, 1.0, 2.0]
    blurred = gaussian_blur(hr, torch.tensor(sigmas), 2.0)
    for image, sigma in zip(blurred, sigmas, strict=True):
        offsets = np.arange(-6, 7)
        kernel = np.exp(-(offsets**2) / (2 * np.float64(np.float32(sigma)) ** 2))
        kernel /= kernel.sum()
        np.testing.assert_allclose(image[0, 14:27, 14:27].numpy(), np.outer(kernel, kernel), atol=1e-15)
        assert math.isclose(image.sum(), 1)


def test_a_constant_stays_what_it_is_to_the_edge() -> None:
    hr = torch.full((2, 3, 16, 20), 0.3)
    torch.testing.assert_close(gaussian_blur(hr, torch.tensor([0.1, 2.0]), 2.0), hr)


def test_a_vanishing_sigma_changes_nothing() -> None:
    hr = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(gaussian_blur(hr, torch.tensor([1e-3]), 1.0), hr)


def test_blur_is_not_coarsened_by_autocast() -> None:
    hr = torch.rand(2, 3, 16, 16)
    sigma = torch.tensor([0.5, 1.0])
    with torch.autocast("cpu", torch.bfloat16):
        blurred = gaussian_blur(hr, sigma, 1.0)
    torch.testing.assert_close(blurred, gaussian_blur(hr, sigma, 1.0), rtol=0, atol=0)


def test_blur_does_not_depend_on_the_rest_of_the_batch() -> None:
    hr, sigma = torch.rand(4, 3, 16, 16), torch.tensor([0.2, 0.5, 1.0, 1.5])
    whole = gaussian_blur(hr, sigma, 1.5)
    torch.testing.assert_close(whole[2:3], gaussian_blur(hr[2:3], sigma[2:3], 1.5))


def test_quantise_gives_what_a_file_would_hold_and_passes_gradients() -> None:
    x = torch.tensor([-0.1, 0.0, 0.4999, 0.5021, 1.2], requires_grad=True)
    rounded = quantise(x)
    torch.testing.assert_close(rounded * 255, torch.tensor([0.0, 0.0, 127.0, 128.0, 255.0]))
    rounded.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0] * 5


def test_weights_made_while_measuring_serve_training_too() -> None:
    with torch.inference_mode():
        bicubic(torch.rand(1, 3, 44, 44), 4)
    hr = torch.rand(1, 3, 44, 44, requires_grad=True)
    bicubic(hr, 4).square().sum().backward()
    assert hr.grad is not None
