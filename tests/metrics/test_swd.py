"""Sliced Wasserstein distance: against SciPy's, and what it notices."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d  # type: ignore[import-untyped]
from scipy.stats import wasserstein_distance  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional

from sisr.metrics import swd as module
from sisr.metrics.swd import Swd, patches


def images(count: int = 3, side: int = 48, seed: int = 0) -> list[Tensor]:
    """Smooth pictures with some fine texture."""
    random = torch.Generator().manual_seed(seed)
    smooth = torch.rand(count, 3, 6, 6, generator=random)
    large = functional.interpolate(smooth, size=(side, side), mode="bicubic")
    texture = 0.1 * torch.randn(count, 1, side, side, generator=random)
    return list((large + texture).clamp(0, 1).split(1))


def blurred(image: Tensor) -> Tensor:
    small = functional.avg_pool2d(image, 4)
    return functional.interpolate(small, scale_factor=4, mode="bicubic").clamp(0, 1)


def between(sr: list[Tensor], hr: list[Tensor]) -> float:
    return Swd().value([(patches(ours), patches(theirs)) for ours, theirs in zip(sr, hr, strict=True)])


def test_equal_images_are_zero_apart() -> None:
    assert between(images(), images()) == 0.0


def test_it_is_the_same_each_time_and_for_any_order_of_the_images() -> None:
    sr, hr = [blurred(image) for image in images()], images()
    assert between(sr, hr) == between(sr, hr)
    assert between(sr[::-1], hr) == pytest.approx(between(sr, hr), rel=1e-9)


def test_global_random_numbers_are_neither_used_nor_changed() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = between([blurred(image) for image in images()], images())
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    np.random.seed(6)
    assert between([blurred(image) for image in images()], images()) == first


def test_one_level_is_the_mean_of_scipys_distances_of_projections() -> None:
    sr, hr = (np.random.default_rng(i).normal(i, 1 + i, (300, 3, 49)).astype(np.float32) for i in (0, 1))
    mean, deviation = (f(hr.astype(np.float64), axis=(0, 2), keepdims=True) for f in (np.mean, np.std))
    random = module.generator(module.SEED, "directions", 0, 0).standard_normal((module.DIRECTIONS, 147))
    directions = random / np.linalg.norm(random, axis=1, keepdims=True)
    flat = [((each - mean) / deviation).reshape(300, -1) @ directions.T for each in (sr, hr)]
    expected = np.mean([wasserstein_distance(a, b) for a, b in zip(flat[0].T, flat[1].T, strict=True)])
    assert Swd().value([({"rest 0": sr}, {"rest 0": hr})]) == pytest.approx(1000 * expected, rel=1e-9)


def test_less_blur_is_less_distance() -> None:
    hr = images()
    far = between([blurred(image) for image in hr], hr)
    near = between([blurred(image) + 0.7 * (image - blurred(image)) for image in hr], hr)
    assert 0 < near < 0.5 * far


def test_one_colour_is_far_from_everything() -> None:
    hr = images()
    grey = [torch.full_like(image, 0.5) for image in hr]
    assert between(grey, hr) > 2 * between([blurred(image) for image in hr], hr)


def scipys_levels(image: np.ndarray) -> list[np.ndarray]:
    """The Laplacian pyramid of (3, h, w), blurred by SciPy: at a level's edge pixels are mirrored."""

    def blur(x: np.ndarray) -> np.ndarray:
        for axis in (1, 2):
            x = convolve1d(x, np.array([1, 4, 6, 4, 1]) / 16, axis=axis, mode="mirror")
        return x

    levels = []
    while min(image.shape[1:]) >= 32:
        coarse, spread = blur(image)[:, ::2, ::2], np.zeros_like(image)
        spread[:, ::2, ::2] = coarse
        levels.append(image - 4 * blur(spread))
        image = coarse
    return [*levels, image]


@pytest.mark.parametrize("shape", [(70, 65), (64, 83), (40, 33)])
def test_patches_are_cut_from_a_laplacian_pyramid_as_scipy_makes_it(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((3, *shape))
    found = patches(torch.from_numpy(image)[None])
    levels = scipys_levels(image)
    assert list(found) == [*(f"band {i}" for i in range(len(levels) - 1)), f"rest {len(levels) - 1}"]
    for number, (level, cut) in enumerate(zip(levels, found.values(), strict=True)):
        _, height, width = level.shape
        places = zip(*module._places(height, width, number), strict=True)
        expected = np.stack([level[:, top : top + 7, left : left + 7].reshape(3, 49) for top, left in places])
        np.testing.assert_allclose(cut, expected, atol=1e-6)


@pytest.mark.parametrize("side", [7, 16, 20, 31, 33])
def test_small_images_can_be_measured(side: int) -> None:
    hr = images(2, side)
    assert between(hr, hr) == 0.0
    assert between([image * 0.5 for image in hr], hr) > 0


def test_images_of_different_sizes_are_measured_together() -> None:
    hr = images(1, 64) + images(1, 20)
    assert between([blurred(image) for image in hr], hr) > 0


def test_flat_images_give_numbers() -> None:
    flat = [torch.full((1, 3, 32, 32), 0.3)]
    assert between(flat, flat) == 0.0


def test_leaving_images_out_is_measuring_the_others_with_the_colours_of_all() -> None:
    draws = np.random.default_rng(5)
    images = [torch.from_numpy(draws.random((1, 3, 40, 44))) for _ in range(10)]
    evidence = [module.Swd().evidence(hr, images[-1 - i]) for i, hr in enumerate(images[:5])]
    found = module.Swd().values_without(evidence, [[0], [1, 3], []])
    others = [module.Swd().value([evidence[i] for i in kept]) for kept in ((1, 2, 3, 4), (0, 2, 4))]
    assert found[:2] == pytest.approx(others, rel=0.1), "but for the colours' normalisation"
    assert found[2] == module.Swd().value(evidence)
