"""Random numbers by counter: as published, as distributed, and the same however they are divided."""

import math

import numpy as np
import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]

from sisr.data import draws, philox
from sisr.data.draws import LARGE, Draws

SHAPE = (3, 32, 32)

# Random123's known answers for philox4x32-10 (kat_vectors): counter, key, result.
KNOWN = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_words_are_those_that_random123_publishes(
    counter: tuple[int, ...], key: tuple[int, int], result: tuple[int, ...]
) -> None:
    c0, c1, c2, c3 = (torch.tensor([word]) for word in counter)
    assert tuple(word.item() for word in philox.philox((c0, c1, c2, c3), key)) == result


def test_words_equal_those_of_python_integers_of_any_size() -> None:
    random = np.random.default_rng(0)
    counters = random.integers(0, 2**32, (4, 500))
    key = (int(random.integers(2**32)), int(random.integers(2**32)))
    c0, c1, c2, c3 = torch.from_numpy(counters)
    found = torch.stack(philox.philox((c0, c1, c2, c3), key)).T.tolist()
    assert found == [list(by_hand(tuple(map(int, counter)), key)) for counter in counters.T]


def by_hand(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Equations of Salmon et al., section 3.3, on integers without a size."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        one, two = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (two >> 32) ^ b ^ k, two & 0xFFFFFFFF, (one >> 32) ^ d ^ m, one & 0xFFFFFFFF
        k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
    return a, b, c, d


def test_large_uniform_numbers_are_uniform() -> None:
    numbers = Draws(0, 5, 0, 32).uniform("x", *SHAPE).double().flatten().numpy()
    assert 0 <= numbers.min() < 1e-4
    assert 1 - 1e-4 < numbers.max() < 1
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3


def test_large_normal_numbers_are_normal_and_independent() -> None:
    numbers = Draws(0, 5, 0, 32).normal("x", *SHAPE).double().flatten(1).numpy()
    n = numbers.size
    assert abs(numbers.mean()) < 4 / math.sqrt(n)
    assert abs(numbers.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs(stats.kurtosis(numbers, axis=None)) < 4 * math.sqrt(24 / n)
    assert stats.kstest(numbers.ravel(), "norm").pvalue > 1e-3
    examples = np.corrcoef(numbers)  # of 3,072 numbers each
    assert np.abs(examples - np.eye(len(examples))).max() < 5 / math.sqrt(numbers.shape[1])
    quarters = np.corrcoef(numbers.reshape(len(numbers), 4, -1).swapaxes(0, 1).reshape(4, -1))
    assert np.abs(quarters - np.eye(4)).max() < 4 / math.sqrt(n / 4)


@pytest.mark.parametrize("shape", [(), (1, 1, 1), SHAPE, (LARGE + 1,)])
@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_workers_draw_together_what_one_draws_alone(kind: str, shape: tuple[int, ...]) -> None:
    whole = getattr(Draws(7, 3, 0, 6), kind)("x", *shape)
    parts = [getattr(Draws(7, 3, first, count), kind)("x", *shape) for first, count in ((0, 1), (1, 3), (4, 2))]
    assert whole.shape == (6, *shape)
    assert torch.equal(whole, torch.cat(parts))


def test_seed_name_step_and_example_each_give_other_numbers() -> None:
    places = [(seed, name, step) for seed in (0, 1, 2**62) for name in "xy" for step in (0, 1, 2**32)]
    rows = torch.cat([Draws(seed, step, 0, 2).normal(name, *SHAPE).flatten(1) for seed, name, step in places])
    apart = np.corrcoef(rows.numpy())
    assert np.abs(apart - np.eye(len(rows))).max() < 5.5 / math.sqrt(rows.shape[1])


def test_the_extreme_words_give_finite_normal_numbers() -> None:
    words = torch.tensor([0, 1, 2**32 - 1])
    numbers = torch.empty(2, 9)
    philox._box_muller(words.repeat_interleave(3), words.repeat(3), *numbers)
    assert numbers.isfinite().all()
    assert numbers.abs().max() == pytest.approx(math.sqrt(2 * 33 * math.log(2)), rel=1e-5)


@pytest.mark.parametrize("shape", [(), SHAPE])
def test_runs_of_the_first_version_go_on_with_the_numbers_that_they_began_with(shape: tuple[int, ...]) -> None:
    found = Draws(7, 3, 2, 1, format=1).normal("x", *shape)[0]
    assert torch.equal(found, torch.from_numpy(np.asarray(draws.generator(7, "x", 3, 2).standard_normal(shape, "f4"))))
