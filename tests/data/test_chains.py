"""The chains of degradations: their draws against the published settings, and independence from the batch."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from sisr.config.degradation import Bsrgan, RealEsrgan
from sisr.config.settings import build
from sisr.data.degradations import bsrgan, degrade, real_esrgan
from sisr.data.degradations.chance import Chance
from sisr.data.degradations.operations import (
    Downscale,
    Filter,
    GaussianNoise,
    Jpeg,
    PoissonNoise,
    Resize,
    Subsample,
)
from sisr.data.draws import Draws
from sisr.errors import ConfigError

COUNT = 10_000
SIDE = 200  # px, of hr
CHAINS: dict[str, RealEsrgan | Bsrgan] = {"real_esrgan": RealEsrgan(), "bsrgan": Bsrgan()}


@pytest.fixture(scope="module")
def second_order() -> list[list]:
    chances = Chance.of_each(Draws(7, 0, 0, COUNT), real_esrgan.NUMBERS)
    return [real_esrgan.plan(RealEsrgan(), chance, SIDE, SIDE, 4) for chance in chances]


@pytest.fixture(scope="module")
def shuffled() -> list[list]:
    chances = Chance.of_each(Draws(7, 0, 0, COUNT), bsrgan.NUMBERS)
    return [bsrgan.plan(Bsrgan(), chance, SIDE, SIDE, 4) for chance in chances]


def share(found: list[bool]) -> float:
    return sum(found) / len(found)


def near(probability: float, count: int = COUNT) -> object:
    """What a share of so many draws is nearly always: four standard deviations."""
    return pytest.approx(probability, abs=4 * math.sqrt(probability * (1 - probability) / count) + 1e-9)


def rounds(chain: list) -> tuple[list, list, list]:
    """The operations of the first round, of the second before its JPEG, and what follows."""
    first = chain[: next(i for i, one in enumerate(chain) if isinstance(one, Jpeg)) + 1]
    rest = chain[len(first) :]
    noise = next(i for i, one in enumerate(rest) if isinstance(one, GaussianNoise | PoissonNoise))
    return first, rest[: noise + 1], rest[noise + 1 :]


@pytest.mark.slow
def test_the_first_round_has_the_published_probabilities(second_order: list[list]) -> None:
    firsts = [rounds(chain)[0] for chain in second_order]
    assert all([type(one) for one in first][:2] == [Filter, Resize] for first in firsts)
    kernels = [first[0].kernel for first in firsts]
    assert share([kernel.profile == "sinc" for kernel in kernels]) == near(0.1)
    kinds = Counter(
        (kernel.profile, kernel.sigma[0] != kernel.sigma[1], kernel.power == 1 and kernel.profile == "gaussian")
        for kernel in kernels
        if kernel.profile != "sinc"
    )
    blurs = kinds.total()
    published = {
        ("gaussian", False, True): 0.45,
        ("gaussian", True, True): 0.25,
        ("gaussian", False, False): 0.12,
        ("gaussian", True, False): 0.03,
        ("plateau", False, False): 0.12,
        ("plateau", True, False): 0.03,
    }
    assert {kind: count / blurs for kind, count in kinds.items()} == {
        kind: near(probability, blurs) for kind, probability in published.items()
    }
    sides = Counter(kernel.side for kernel in kernels)
    assert {side: count / COUNT for side, count in sides.items()} == {side: near(1 / 8) for side in range(7, 22, 2)}
    ways = Counter((first[1].height > SIDE) - (first[1].height < SIDE) for first in firsts)
    # 1 / 1.5 px of the way up, and none of the way down, rounds down to no change.
    assert ways[-1] / COUNT == near(0.7)
    assert ways[1] / COUNT == near(0.2 * 0.99)
    assert Counter(first[1].mode for first in firsts) == {
        mode: pytest.approx(COUNT / 3, abs=200) for mode in ("area", "bilinear", "bicubic")
    }
    gaussian = [isinstance(first[2], GaussianNoise) for first in firsts]
    assert share(gaussian) == near(0.5)
    assert share([first[2].grey for first in firsts]) == near(0.4)


@pytest.mark.slow
def test_the_second_round_has_the_published_probabilities(second_order: list[list]) -> None:
    seconds = [rounds(chain)[1] for chain in second_order]
    assert share([isinstance(second[0], Filter) for second in seconds]) == near(0.8)
    sizes = [second[-2].height for second in seconds]
    assert share([size == SIDE // 4 for size in sizes]) == pytest.approx(0.3 + 0.3 * 0.1, abs=0.02)
    assert share([size < SIDE // 4 for size in sizes]) == near(0.4)
    lasts = [rounds(chain)[2] for chain in second_order]
    assert share([isinstance(last[-1], Jpeg) for last in lasts]) == near(0.5)
    assert share([any(isinstance(one, Filter) for one in last) for last in lasts]) == near(0.8)


@pytest.mark.slow
def test_values_of_the_second_order_fill_the_published_ranges(second_order: list[list]) -> None:
    firsts, seconds, lasts = zip(*map(rounds, second_order), strict=True)

    def spans(values: list[float], low: float, high: float) -> None:
        width = (high - low) / 50
        assert low <= min(values) < low + width
        assert high - width < max(values) <= high

    for rounds_, sigma, factor, gaussian, poisson, base in (
        (firsts, (0.2, 3.0), (0.15, 1.5), (1, 30), (0.05, 3.0), SIDE),
        (seconds, (0.2, 1.5), (0.3, 1.2), (1, 25), (0.05, 2.5), SIDE // 4),
    ):
        every = [one for chain in rounds_ for one in chain]
        kernels = [one.kernel for one in every if isinstance(one, Filter)]
        spans([s for kernel in kernels if kernel.profile != "sinc" for s in kernel.sigma], *sigma)
        spans([k.cutoff for k in kernels if k.profile == "sinc" and k.side >= 13], math.pi / 5, math.pi)
        spans([k.cutoff for k in kernels if k.profile == "sinc" and k.side < 13], math.pi / 3, math.pi)
        spans([k.angle for k in kernels if k.sigma[0] != k.sigma[1]], -math.pi, math.pi)
        powers = [k.power for k in kernels if k.profile == "gaussian" and k.power != 1]
        spans(powers, 0.5, 4.0)
        assert share([power < 1 for power in powers]) == near(0.5, len(powers))
        spans([k.power for k in kernels if k.profile == "plateau"], 1.0, 2.0)
        sizes = [one.height / base for one in every if isinstance(one, Resize)]
        assert factor[0] - 1 / base < min(sizes) < factor[0] + 1 / base
        assert factor[1] - 2 / base < max(sizes) <= factor[1]
        spans([one.sigma for one in every if isinstance(one, GaussianNoise)], *gaussian)
        spans([one.strength for one in every if isinstance(one, PoissonNoise)], *poisson)
    qualities = Counter(one.quality for chain in second_order for one in chain if isinstance(one, Jpeg))
    assert set(qualities) == set(range(30, 96))
    assert min(qualities.values()) > 0.7 * max(qualities.values())
    ringing = [one.kernel for last in lasts for one in last if isinstance(one, Filter)]
    spans([kernel.cutoff for kernel in ringing], math.pi / 3, math.pi)


@pytest.mark.slow
def test_the_shuffled_chain_has_the_published_probabilities(shuffled: list[list]) -> None:
    halved = [
        isinstance(chain[0], Downscale)
        or (
            (isinstance(chain[0], Resize) and chain[0].height == 100)
            and sum(isinstance(one, Resize | Subsample) for one in chain) == 3
        )
        for chain in shuffled
    ]
    assert share(halved) == near(0.25)
    assert share([isinstance(chain[0], Downscale) for chain in shuffled]) == near(0.125)
    assert share([any(isinstance(one, Subsample) for one in chain) for chain in shuffled]) == near(0.25)
    assert share([sum(isinstance(one, Jpeg) for one in chain) == 2 for chain in shuffled]) == near(0.9)
    noises = [one for chain in shuffled for one in chain if isinstance(one, GaussianNoise)]
    assert len(noises) == COUNT
    assert share([noise.grey for noise in noises]) == near(0.4)
    assert share([noise.mixing is not None for noise in noises]) == near(0.2)
    sigmas = Counter(noise.sigma for noise in noises if noise.mixing is None)
    assert set(sigmas) == set(range(2, 26))
    blurs = [one.kernel for chain in shuffled for one in chain if isinstance(one, Filter) and not one.kernel.centre]
    assert len(blurs) == 2 * COUNT
    assert {kernel.side for kernel in blurs} == set(range(7, 26, 2))
    assert share([kernel.sigma[0] == kernel.sigma[1] for kernel in blurs]) == near(0.5, 2 * COUNT)
    assert all(isinstance(chain[-1], Jpeg) for chain in shuffled)


@pytest.mark.slow
def test_the_last_resize_of_the_shuffled_chain_comes_after_the_first_and_makes_lr(shuffled: list[list]) -> None:
    for chain in shuffled:
        last = [one for one in chain if isinstance(one, Resize | Subsample)][-1]
        assert isinstance(last, Resize)
        assert (last.height, last.width) == (SIDE // 4, SIDE // 4)


@pytest.mark.slow
def test_correlated_noise_has_the_covariance_that_was_drawn(shuffled: list[list]) -> None:
    noise = next(one for chain in shuffled for one in chain if isinstance(one, GaussianNoise) and one.mixing)
    grey = torch.full((1, 3, 400, 400), 0.5)
    found = torch.cov(((noise(grey, Draws(0, 0, 0, 1), "n") - grey) * 255 / noise.sigma).flatten(2)[0])
    mixing = torch.tensor(noise.mixing)
    torch.testing.assert_close(found, mixing @ mixing.T, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize(("scale", "side"), [(4, 96), (2, 62), (3, 63)])
def test_an_example_s_lr_does_not_depend_on_the_rest_of_its_batch(name: str, scale: int, side: int) -> None:
    hr, draws = torch.rand(8, 3, side, side + 2 * scale), Draws(5, 11, 4, 8)
    whole = degrade(CHAINS[name], hr, scale, draws)
    each = [degrade(CHAINS[name], hr[i : i + 1], scale, replace(draws, first=4 + i, count=1)) for i in range(8)]
    assert torch.equal(whole, torch.cat(each))
    assert whole.shape == (8, 3, side // scale, side // scale + 2)
    assert torch.equal((whole * 255).round() / 255, whole)
    assert len({tuple(lr.flatten().tolist()) for lr in whole}) == 8


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_computed_in_float32_under_any_precision(name: str) -> None:
    hr, draws = torch.rand(4, 3, 64, 64), Draws(0, 0, 0, 4)
    plain = degrade(CHAINS[name], hr, 4, draws)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(degrade(CHAINS[name], hr, 4, draws), plain)
    assert torch.equal(degrade(CHAINS[name], hr.to(memory_format=torch.channels_last), 4, draws), plain)
    wide = degrade(CHAINS[name], hr.double(), 4, draws)
    assert wide.dtype == torch.float64
    assert torch.equal(wide, plain.double())


def test_parameters_are_strict() -> None:
    mild = build(RealEsrgan, {"second": {"quality": [60, 95]}})
    assert mild.second.quality == (60, 95)
    assert mild.second.sigma == (0.2, 1.5)
    for wrong, message in (
        ({"first": {"quality": [95, 30]}}, "smaller one first"),
        ({"first": {"quality": [30, 101]}}, "1 to 100"),
        ({"first": {"sigma": [0.0, 1.0]}}, "above 0"),
        ({"first": {"grey_probability": 1.5}}, "<= 1"),
        ({"first": {"resize": [0, 0, 0]}}, "one of them above"),
        ({"first": {"qualty": [30, 95]}}, "did you mean 'quality'"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(RealEsrgan, wrong)
