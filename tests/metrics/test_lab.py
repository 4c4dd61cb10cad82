import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from sisr.metrics.lab import colour_shift, lab


def test_lab_is_scikit_images() -> None:
    grid = np.linspace(0, 1, 9)
    colours = np.stack(np.meshgrid(grid, grid, grid), axis=-1).reshape(-1, 1, 3)
    ours = lab(torch.from_numpy(colours)).numpy()
    np.testing.assert_allclose(ours, rgb2lab(colours), atol=1e-3)


def test_white_is_100_and_grey_has_no_colour() -> None:
    greys = lab(torch.tensor([[1.0, 1.0, 1.0], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0]]))
    assert greys[:, 0].tolist() == pytest.approx([100, 53.39, 0], abs=0.01)
    assert greys[:, 1:].abs().max() < 0.01


def test_only_a_shift_of_the_mean_counts() -> None:
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5
    blurred = image.mean(dim=(2, 3), keepdim=True).expand_as(image)
    redder = image + torch.tensor([0.1, 0.0, 0.0]).view(3, 1, 1)
    assert colour_shift(image, blurred).max() < 1e-4
    means = [each[0].mean(dim=(1, 2)).double().numpy() for each in (redder, image)]
    expected = np.linalg.norm(rgb2lab(means[0]) - rgb2lab(means[1]))
    assert colour_shift(redder, image)[0].item() == pytest.approx(expected, abs=1e-3)
