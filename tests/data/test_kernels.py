"""Blur kernels against scipy and their formulas, and convolution against scipy's."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, special, stats  # type: ignore[import-untyped]

from sisr.data.degradations.kernels import Kernel, filtered


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:side, :side] - side // 2
    return x, y


def covariance(sigma: tuple[float, float], angle: float) -> np.ndarray:
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return rotation @ np.diag(np.square(sigma)) @ rotation.T


@pytest.mark.parametrize(("sigma", "angle"), [((1.3, 1.3), 0.0), ((0.6, 2.4), 0.7), ((3.0, 0.4), -2.5)])
def test_a_gaussian_is_scipy_s_density(sigma: tuple[float, float], angle: float) -> None:
    x, y = grid(15)
    density = stats.multivariate_normal.pdf(np.stack([x, y], axis=-1), mean=[0, 0], cov=covariance(sigma, angle))
    kernel = Kernel("gaussian", 15, sigma, angle).weights().numpy()
    np.testing.assert_allclose(kernel, density / density.sum(), atol=1e-14)


@pytest.mark.parametrize("profile", ["gaussian", "plateau"])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.7])
def test_other_powers_are_the_published_formulas(profile, power: float) -> None:
    x, y = grid(11)
    points = np.stack([x, y], axis=-1)
    squared = np.einsum("...i,ij,...j", points, np.linalg.inv(covariance((1.1, 2.0), 0.4)), points)
    found = np.exp(-0.5 * squared**power) if profile == "gaussian" else 1 / (squared**power + 1)
    kernel = Kernel(profile, 11, (1.1, 2.0), 0.4, power).weights().numpy()
    np.testing.assert_allclose(kernel, found / found.sum(), atol=1e-14)


@pytest.mark.parametrize("cutoff", [math.pi / 5, 1.7, math.pi])
def test_a_sinc_is_the_ideal_low_pass_filter_cut_to_a_square(cutoff: float) -> None:
    x, y = grid(21)
    radius = np.hypot(x, y)
    with np.errstate(all="ignore"):
        found = cutoff * special.j1(cutoff * radius) / (2 * np.pi * radius)
    found[10, 10] = cutoff**2 / (4 * np.pi)
    np.testing.assert_allclose(
        Kernel("sinc", 21, cutoff=cutoff).weights().numpy(), found / found.sum(), rtol=0, atol=1e-7
    )


def test_a_shifted_gaussian_has_its_mean_where_it_was_shifted_to() -> None:
    kernel = Kernel("gaussian", 25, (1.6, 1.6), centre=1.5).weights().numpy()
    x, y = grid(25)
    assert (kernel * x).sum() == pytest.approx(1.5, abs=1e-6)
    assert (kernel * y).sum() == pytest.approx(1.5, abs=1e-6)


def test_a_vanishing_sigma_leaves_the_middle_alone() -> None:
    kernel = Kernel("gaussian", 7, (1e-3, 1e-3)).weights()
    assert kernel[3, 3] == 1
    assert kernel.sum() == 1


def test_an_even_side_is_refused() -> None:
    with pytest.raises(ValueError, match="must be odd, got 8"):
        Kernel("gaussian", 8).weights()


@pytest.mark.parametrize(("height", "width"), [(40, 31), (16, 64), (5, 7), (1, 3)])
def test_filtering_is_scipy_s_correlation_with_mirrored_edges(height: int, width: int) -> None:
    kernel = torch.rand(21, 21, dtype=torch.float64)
    kernel /= kernel.sum()
    images = torch.rand(2, 3, height, width)
    found = filtered(images, kernel)
    for image, result in zip(images.flatten(0, 1), found.flatten(0, 1), strict=True):
        expected = ndimage.correlate(image.double().numpy(), kernel.numpy(), mode="mirror")
        np.testing.assert_allclose(result.numpy(), expected, atol=2e-6)
