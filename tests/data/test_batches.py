"""Batches are a pure function of seed and step; the prefetcher adds nothing; to_hr does what the crop says."""

import colorsys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sisr.data.augment import rotate, saturate, to_hr
from sisr.data.batches import Batches, Prefetcher
from sisr.data.draws import Draws
from sisr.errors import DataError
from sisr.recipe import Crop

HANGS_S = 60  # for what takes milliseconds


class Photos:
    """Images in memory; every pixel of image i says where it lies: (row, column, i)."""

    def __init__(self, count: int, height: int = 40, width: int = 50) -> None:
        rows, columns = np.mgrid[:height, :width]
        self.images = [np.dstack([rows, columns, np.full_like(rows, i)]).astype(np.uint8) for i in range(count)]
        self.names = [f"{i}.png" for i in range(count)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self.images[index]

    def lr(self, index: int) -> NDArray[np.uint8]:
        """What hr shows at every second pixel."""
        return np.ascontiguousarray(self.images[index][:40:2, :50:2])


def _taken(batches: Batches, step: int, first: int, count: int) -> NDArray[np.uint8]:
    return batches.take(step, first, count).hr.numpy()


def _batches(count: int = 7, crop: Crop | None = None, batch_size: int = 4, seed: int = 3) -> Batches:
    return Batches(Photos(count), crop or Crop(side=8, turn=True), batch_size, seed)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_workers_together_take_the_batch_of_one_worker(world: int) -> None:
    count = 4 // world
    shares = [_taken(_batches(), 5, rank * count, count) for rank in range(world)]
    np.testing.assert_array_equal(np.concatenate(shares), _taken(_batches(), 5, 0, 4))


def test_a_batch_does_not_depend_on_what_was_taken_before() -> None:
    used = _batches()
    for step in (9, 2, 30, 4):
        _taken(used, step, 0, 4)
    np.testing.assert_array_equal(_taken(used, 11, 0, 4), _taken(_batches(), 11, 0, 4))


def test_a_batch_does_not_depend_on_global_random_state() -> None:
    np.random.seed(0)
    torch.manual_seed(0)
    first = _taken(_batches(), 1, 0, 4)
    state = torch.get_rng_state()
    np.testing.assert_array_equal(_taken(_batches(), 1, 0, 4), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_and_steps_give_other_batches() -> None:
    base = _taken(_batches(), 0, 0, 4)
    assert (_taken(_batches(seed=4), 0, 0, 4) != base).any()
    assert (_taken(_batches(), 1, 0, 4) != base).any()


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order() -> None:
    batches = _batches(count=7, batch_size=4)
    seen = [batches.index(example // 4, example % 4) for example in range(70)]
    epochs = [seen[i : i + 7] for i in range(0, 70, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 5


def test_more_examples_than_images_is_no_obstacle() -> None:
    assert _taken(_batches(count=1, batch_size=16), 0, 0, 16).shape == (16, 8, 8, 3)


def _corners(crop: Crop, steps: int = 300) -> NDArray[np.uint8]:
    batches = Batches(Photos(1), crop, 4, 0)
    windows = np.concatenate([_taken(batches, step, 0, 4) for step in range(steps)])
    return windows[..., :2].min(axis=(1, 2))


def test_windows_reach_every_place_of_the_image_and_none_beyond() -> None:
    corners = _corners(Crop(side=36))
    assert set(corners[:, 0].tolist()) == set(range(40 - 36 + 1))
    assert set(corners[:, 1].tolist()) == set(range(50 - 36 + 1))


def test_windows_stay_in_the_box() -> None:
    corners = _corners(Crop(side=10, box=(5, 20, 13, 12)))
    assert set(corners[:, 0].tolist()) == {20, 21, 22}
    assert set(corners[:, 1].tolist()) == {5, 6, 7, 8}


def _orientations(crop: Crop) -> dict[tuple[int, ...], int]:
    """How often each order of the four corners occurs."""
    batches = Batches(Photos(1), crop, 4, 0)
    counts: dict[tuple[int, ...], int] = {}
    for step in range(400):
        for window in _taken(batches, step, 0, 4).astype(int):
            code = window[..., 0] * 100 + window[..., 1]
            corners = code[[0, 0, -1, -1], [0, -1, 0, -1]]
            order = tuple(np.argsort(np.argsort(corners)).tolist())
            counts[order] = counts.get(order, 0) + 1
    return counts


def test_without_flips_the_window_is_as_in_the_image() -> None:
    assert list(_orientations(Crop(side=8, flip=False))) == [(0, 1, 2, 3)]


def test_flips_happen_half_the_time() -> None:
    counts = _orientations(Crop(side=8))
    assert set(counts) == {(0, 1, 2, 3), (1, 0, 3, 2)}
    assert 0.45 < counts[(1, 0, 3, 2)] / 1600 < 0.55


def test_turns_give_all_eight_orientations_equally_often() -> None:
    counts = _orientations(Crop(side=8, turn=True))
    assert len(counts) == 8
    assert all(0.09 < count / 1600 < 0.16 for count in counts.values())


def test_an_image_too_small_is_named() -> None:
    batches = _batches(crop=Crop(side=64))
    with pytest.raises(DataError, match=r"\d\.png: .*50x40 pixels don't hold a window of 64x64"):
        _taken(batches, 0, 0, 1)


def test_no_image_is_an_error() -> None:
    with pytest.raises(DataError, match="no images"):
        _batches(count=0)


# -- prefetcher

SHARE = 2  # of four examples: the second of two workers takes the last two


def test_prefetched_batches_are_those_of_the_steps() -> None:
    batches = _batches()
    prefetcher = Prefetcher(batches, SHARE, SHARE, start_step=6)
    for step in range(6, 12):
        pixels = prefetcher.next().hr
        assert pixels.dtype == torch.uint8
        np.testing.assert_array_equal(pixels.numpy(), _taken(batches, step, 2, 2))
    prefetcher.close()


def test_without_depth_the_same_batches_are_cut_when_asked_for_and_no_thread_starts() -> None:
    batches, before = _batches(), threading.active_count()
    prefetcher = Prefetcher(batches, SHARE, SHARE, start_step=6, depth=0)
    for step in range(6, 9):
        np.testing.assert_array_equal(prefetcher.next().hr.numpy(), _taken(batches, step, 2, 2))
    assert threading.active_count() == before
    assert prefetcher.waited_s > 0
    prefetcher.close()


def test_waiting_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    photos, times = Photos(1), iter([10.0, 13.0])

    class Slow(Photos):
        def __getitem__(self, index: int) -> NDArray[np.uint8]:
            gate.wait()
            return photos[index]

    def now() -> float:
        gate.set()  # once the clock was read, and not before, there is something to wait for
        return next(times)

    gate = threading.Event()
    monkeypatch.setattr("sisr.data.batches.time", SimpleNamespace(perf_counter=now))
    prefetcher = Prefetcher(Batches(Slow(1), Crop(side=8), 1, 0))
    prefetcher.next()
    assert prefetcher.waited_s == 3
    prefetcher.close()


def test_at_most_two_batches_are_made_ahead() -> None:
    taken = threading.Semaphore(0)

    class Counted(Photos):
        def __getitem__(self, index: int) -> NDArray[np.uint8]:
            taken.release()
            return super().__getitem__(index)

    prefetcher = Prefetcher(Batches(Counted(3), Crop(side=8), 1, 0))
    assert taken.acquire(timeout=HANGS_S)
    assert taken.acquire(timeout=HANGS_S)
    assert not taken.acquire(timeout=0.1)
    prefetcher.next()
    assert taken.acquire(timeout=HANGS_S)
    prefetcher.close()


def test_an_error_in_the_thread_reaches_whoever_asks_and_asks_again() -> None:
    prefetcher = Prefetcher(_batches(crop=Crop(side=64)))
    for _ in range(2):
        with pytest.raises(DataError, match=r"\.png"):
            prefetcher.next()
    prefetcher.close()


def test_closing_ends_the_thread_and_twice_is_once() -> None:
    before = threading.active_count()
    prefetcher = Prefetcher(_batches())
    prefetcher.next()
    prefetcher.close()
    prefetcher.close()
    assert threading.active_count() == before


# -- to_hr

DRAWS = Draws(seed=0, step=0, first=0, count=4)


def _pixels(side: int = 8) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_plain_hr_is_the_pixels_over_255(dtype: torch.dtype, channels_last: bool) -> None:
    hr = to_hr(_pixels(), Crop(side=8), DRAWS, dtype, channels_last)
    torch.testing.assert_close(hr, _pixels().permute(0, 3, 1, 2).to(dtype) / 255, rtol=0, atol=0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert hr.is_contiguous(memory_format=layout)


def test_a_larger_window_is_averaged_to_the_side() -> None:
    hr = to_hr(_pixels(8), Crop(side=4, source_side=8), DRAWS)
    blocks = _pixels(8).double().reshape(4, 4, 2, 4, 2, 3).mean((2, 4)).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(hr, blocks.float())


def test_augmentation_does_not_depend_on_the_number_of_workers() -> None:
    crop = Crop(side=8, saturation=0.3, brightness=0.2, contrast=0.3, rotate_degrees=90)
    whole = to_hr(_pixels(), crop, DRAWS)
    halves = [to_hr(_pixels()[i : i + 2], crop, Draws(seed=0, step=0, first=i, count=2)) for i in (0, 2)]
    torch.testing.assert_close(torch.cat(halves), whole)
    assert whole.min() >= 0
    assert whole.max() <= 1


def test_saturation_is_hsv_s_as_python_s_own_colorsys_has_it() -> None:
    hr = torch.rand(3, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    factors = [0.0, 0.9, 1.8]
    ours = saturate(hr, torch.tensor(factors, dtype=torch.float64))
    for i, factor in enumerate(factors):
        for y in range(4):
            for x in range(4):
                h, s, v = colorsys.rgb_to_hsv(*hr[i, :, y, x].tolist())
                expected = colorsys.hsv_to_rgb(h, min(1.0, s * factor), v)
                assert ours[i, :, y, x].tolist() == pytest.approx(expected)


def test_black_and_grey_survive_saturation() -> None:
    hr = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    torch.testing.assert_close(saturate(hr, torch.tensor([2.0, 2.0, 2.0])), hr.contiguous())


def test_brightness_adds_one_offset_per_example() -> None:
    crop = Crop(side=8, brightness=0.05)
    hr = to_hr(torch.full((4, 8, 8, 3), 128, dtype=torch.uint8), crop, DRAWS)
    offsets = hr.amax((1, 2, 3)) - 128 / 255
    torch.testing.assert_close(hr, (128 / 255 + offsets).view(4, 1, 1, 1).expand_as(hr))
    assert offsets.abs().max() <= 0.05
    assert len(set(offsets.tolist())) == 4


def test_contrast_keeps_each_channel_s_mean() -> None:
    pixels = (_pixels(16) // 4 + 96).to(torch.uint8)  # far from black and white: nothing is clipped
    plain = to_hr(pixels, Crop(side=16), DRAWS)
    changed = to_hr(pixels, Crop(side=16, contrast=0.3), DRAWS)
    torch.testing.assert_close(changed.mean((2, 3)), plain.mean((2, 3)))
    factors = changed.std((2, 3)) / plain.std((2, 3))
    assert ((factors > 0.7) & (factors < 1.3)).all()
    assert factors.std(0).min() > 0.01


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_quarter_turns_are_exact_and_anticlockwise(quarters: int) -> None:
    hr = torch.rand(2, 3, 8, 8)
    turned = rotate(hr, torch.full((2,), 90.0 * quarters))
    torch.testing.assert_close(turned, hr.rot90(quarters, (2, 3)), rtol=0, atol=1e-5)


def test_rotation_fills_its_corners_from_the_image() -> None:
    turned = rotate(torch.full((1, 3, 16, 16), 0.7), torch.tensor([45.0]))
    torch.testing.assert_close(turned, torch.full_like(turned, 0.7))
