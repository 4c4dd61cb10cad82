"""Validation examples: one per held-out image, without chance."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sisr.data.packing import pack
from sisr.data.sources.folder import find_images
from sisr.data.store import Store
from sisr.data.validation import ValidationImages
from sisr.errors import DataError
from sisr.recipe import Crop


@pytest.fixture
def held(tmp_path: Path) -> Store:
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a": (40, 61), "b": (18, 70), "c": (30, 30)}.items():
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    return pack(find_images(tmp_path), tmp_path / "cache")


def test_without_a_box_the_centre_is_cut_to_a_multiple_of_the_scale(held: Store) -> None:
    first, second = ValidationImages(held, Crop(side=512), 4, limit_side=50)
    np.testing.assert_array_equal(first, held[0][:, 6:54])  # 40 x 48 of 40 x 61
    np.testing.assert_array_equal(second, held[2][1:29, 1:29])  # b is smaller than 11 + 2 * 4


def test_without_a_box_the_centre_is_cut_to_what_the_generator_accepts(held: Store) -> None:
    (only,) = ValidationImages(held, Crop(side=512), 4, size_multiple=4)
    np.testing.assert_array_equal(only, held[0][4:36, 6:54])  # 32 x 48 of 40 x 61: multiples of 16; the others are less


def test_with_a_box_the_window_at_its_centre_is_averaged(held: Store) -> None:
    crop = Crop(side=4, source_side=8, box=(10, 2, 20, 12))
    images = ValidationImages(held, crop, 4)
    assert [image.shape for image in images] == [(4, 4, 3)] * 3
    window = held[0][4:12, 16:24].astype(float)
    assert images[0][1, 3].tolist() == np.floor(window[2:4, 6:8].mean((0, 1)) + 0.5).tolist()


def test_images_all_too_small_are_an_error(held: Store) -> None:
    with pytest.raises(DataError, match="none of 3 held-out images has 90x90"):
        ValidationImages(held, Crop(side=80, box=(0, 0, 90, 90)), 4)


def test_the_examples_are_copies(held: Store) -> None:
    assert all(image.flags.writeable for image in ValidationImages(held, Crop(side=8), 2))
