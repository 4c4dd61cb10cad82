"""Noise by its moments, and Poisson counts by scipy's quantiles."""

import numpy as np
import torch
from scipy import stats  # type: ignore[import-untyped]

from sisr.data.degradations.noise import add_gaussian, add_poisson
from sisr.data.degradations.sharpening import sharpened
from sisr.data.draws import Draws

DRAWS = Draws(0, 0, 0, 1)


def test_gaussian_noise_has_its_deviation_in_grey_levels() -> None:
    grey = torch.full((1, 3, 200, 200), 0.5)
    noise = add_gaussian(grey, DRAWS.normal("n", 3, 200, 200), 12.0) - 0.5
    assert abs(noise.mean()) * 255 < 0.2
    assert abs(noise.std() * 255 - 12) < 0.1


def test_grey_noise_is_the_same_in_all_colours() -> None:
    images = torch.full((1, 3, 20, 20), 0.5)
    for noisy in (
        add_gaussian(images, DRAWS.normal("n", 1, 20, 20), 20.0),
        add_poisson(images, DRAWS.uniform("n", 1, 20, 20), 1.0),
    ):
        noise = noisy - images
        assert noise.std() > 0.01
        assert torch.equal(noise[:, 0], noise[:, 1])
        assert torch.equal(noise[:, 0], noise[:, 2])


def test_noise_stays_in_the_range_of_images() -> None:
    images = torch.rand(1, 3, 30, 30).round()
    noisy = add_gaussian(images, DRAWS.normal("n", 3, 30, 30), 30.0)
    assert (noisy.min(), noisy.max()) == (0, 1)


def test_poisson_noise_is_scipy_s_quantile_of_as_many_photons_as_there_are_values() -> None:
    levels = torch.arange(200).repeat(3, 600, 1).float()[None] / 255  # 200 values: white is 256 photons
    uniform = DRAWS.uniform("n", 3, 600, 200)
    found = (add_poisson(levels, uniform, 1.0) * 256).round()
    middles = (np.floor(uniform.double().numpy() * 4096) + 0.5) / 4096
    counts = stats.poisson.ppf(middles, np.round(levels.double().numpy() * 255) * 256 / 255)
    np.testing.assert_array_equal(found.numpy(), np.minimum(counts, 256))


def test_poisson_noise_has_the_mean_and_variance_of_counts() -> None:
    levels = torch.tensor([25.0, 200.0, 255.0]).repeat_interleave(40_000).reshape(1, 1, 3, 40_000).repeat(1, 3, 1, 1)
    noisy = add_poisson(levels / 255, DRAWS.uniform("n", 3, 3, 40_000), 0.05)  # 3 values: white is 4 photons
    noise = (noisy - levels / 255) / 0.05
    for row, level in enumerate((25, 200)):
        assert abs(noise[0, :, row].mean()) < 0.01
        assert abs(noise[0, :, row].var() / (level / 255 / 4) - 1) < 0.03


def test_grey_levels_are_counted_in_each_image_alone() -> None:
    flat, steps = torch.full((1, 3, 16, 16), 0.5), (torch.arange(256.0) / 255).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    uniform = DRAWS.uniform("n", 3, 16, 16).repeat(2, 1, 1, 1)
    both = add_poisson(torch.cat([flat, steps]), uniform, 1.0)
    assert torch.equal(both[:1], add_poisson(flat, uniform[:1], 1.0))
    assert torch.equal(both[1:], add_poisson(steps, uniform[1:], 1.0))


def test_sharpening_is_the_formula_on_one_bright_pixel() -> None:
    image = torch.zeros(1, 3, 101, 101)
    image[:, :, 50, 50] = 0.6
    axis = np.exp(-np.square(np.arange(-25, 26)) / 128)  # sigma 8
    kernel = np.outer(axis, axis) / axis.sum() ** 2
    middle = kernel[25, 25]
    # Only the bright pixel differs from its blurred version by more than 10 grey levels: the mask is the kernel there.
    expected = middle * (0.6 + 0.5 * (0.6 - 0.6 * middle)) + (1 - middle) * 0.6
    found = sharpened(image)
    assert abs(found[0, 0, 50, 50].item() - expected) < 1e-6
    assert found[0, 0, 50, 51] == 0, "beside it sharpening goes below 0, and is clamped"


def test_sharpening_leaves_alone_what_differs_by_less_than_the_threshold() -> None:
    image = 0.5 + 0.01 * torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(sharpened(image), image)
