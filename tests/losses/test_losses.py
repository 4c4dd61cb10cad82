"""Losses against numbers worked out by hand and PyTorch's own functions."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sisr.losses import adversarial, pixel
from two_workers import WORLD, on_two_workers

REAL = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
FAKE = torch.tensor([-3.0, 1.0, 0.0], dtype=torch.float64)
BLIND = torch.zeros(4)


def linear(images: Tensor) -> Tensor:
    """A judge whose gradient is (3, 4, 0, ...) at every image: of norm 5."""
    return 3.0 * images[:, 0, 0, 0] + 4.0 * images[:, 0, 0, 1]


def quadratic(images: Tensor) -> Tensor:
    """A judge whose gradient is the image itself."""
    return 0.5 * images.square().sum(dim=(1, 2, 3))


def test_a_blind_judge_pays_twice_ln_2_and_its_generator_ln_2() -> None:
    assert adversarial.bce_discriminator(BLIND, BLIND).item() == pytest.approx(2 * math.log(2))
    assert adversarial.bce_generator(BLIND).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("real_label", [1.0, 0.9])
def test_cross_entropy_equals_torch_with_one_sided_labels(real_label: float) -> None:
    real = F.binary_cross_entropy_with_logits(REAL, torch.full_like(REAL, real_label))
    fake = F.binary_cross_entropy_with_logits(FAKE, torch.zeros_like(FAKE))
    torch.testing.assert_close(adversarial.bce_discriminator(REAL, FAKE, real_label), real + fake)
    wanted = F.binary_cross_entropy_with_logits(FAKE, torch.ones_like(FAKE))
    torch.testing.assert_close(adversarial.bce_generator(FAKE), wanted)


def test_cross_entropy_of_extreme_logits_is_finite() -> None:
    assert adversarial.bce_discriminator(torch.tensor([-1e4]), torch.tensor([1e4])).item() == 2e4


def test_wasserstein_losses_are_differences_of_means() -> None:
    assert adversarial.wasserstein_critic(REAL, FAKE).item() == pytest.approx(-2 / 3 - 0.5)
    assert adversarial.wasserstein_generator(FAKE).item() == pytest.approx(2 / 3)


def test_relativistic_average_equals_its_equation() -> None:
    real = torch.sigmoid(REAL - FAKE.mean()).log().mean()
    fake = (1 - torch.sigmoid(FAKE - REAL.mean())).log().mean()
    torch.testing.assert_close(adversarial.relativistic_average_discriminator(REAL, FAKE), -real - fake)
    real = (1 - torch.sigmoid(REAL - FAKE.mean())).log().mean()
    fake = torch.sigmoid(FAKE - REAL.mean()).log().mean()
    torch.testing.assert_close(adversarial.relativistic_average_generator(REAL, FAKE), -real - fake)


def test_a_blind_relativistic_judge_pays_twice_ln_2() -> None:
    assert adversarial.relativistic_average_discriminator(BLIND, BLIND).item() == pytest.approx(2 * math.log(2))


def relativistic_losses(weight: Tensor, share: slice) -> dict[str, Tensor]:
    """Both losses of a judge whose logits are weight * input, and their gradients."""
    weight = weight.clone().requires_grad_()
    real, fake = weight * torch.cat([REAL, REAL + 1])[share], weight * torch.cat([FAKE, FAKE - 2])[share]
    judge = adversarial.relativistic_average_discriminator(real, fake)
    generator = adversarial.relativistic_average_generator(real.detach(), fake)
    gradients = [torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in (judge, generator)]
    return {"losses": torch.stack([judge, generator]).detach(), "gradients": torch.stack(gradients)}


def half_of_the_relativistic_losses(rank: int) -> dict[str, Any]:
    return relativistic_losses(torch.tensor(0.7).double(), slice(3 * rank, 3 * rank + 3))


@pytest.mark.slow
def test_two_workers_average_relativistic_logits_like_one(tmp_path: Path) -> None:
    together = relativistic_losses(torch.tensor(0.7).double(), slice(0, 6))
    workers = on_two_workers(half_of_the_relativistic_losses, tmp_path)
    for key, expected in together.items():
        torch.testing.assert_close(sum(worker[key] for worker in workers) / WORLD, expected, rtol=1e-12, atol=1e-12)


def test_losses_of_half_precision_outputs_are_float32() -> None:
    assert adversarial.bce_generator(BLIND.bfloat16()).dtype == torch.float32
    assert pixel.l1(BLIND.bfloat16(), BLIND).dtype == torch.float32


def test_a_slope_of_5_costs_16() -> None:
    images = torch.rand(3, 3, 2, 2)
    assert adversarial.wgan_gp(linear, images, images, torch.rand(3)).item() == pytest.approx(16.0)


def test_the_penalty_looks_at_each_image_mixed_by_its_own_share() -> None:
    hr, sr = torch.zeros(2, 1, 1, 1), torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    # Mixtures: 0.25 * 0 + 0.75 * 1 = 0.75 and 0.5 * 0 + 0.5 * 3 = 1.5; their slopes are themselves.
    penalty = adversarial.wgan_gp(quadratic, hr, sr, torch.tensor([0.25, 0.5]))
    assert penalty.item() == pytest.approx((0.25**2 + 0.5**2) / 2)


def test_a_penalty_teaches_the_judge_and_not_the_generator() -> None:
    weight, sr = torch.tensor(2.0, requires_grad=True), torch.ones(1, 1, 1, 1, requires_grad=True)

    def judge(images: Tensor) -> Tensor:
        return weight * images.sum(dim=(1, 2, 3))

    penalty = adversarial.wgan_gp(judge, torch.ones(1, 1, 1, 1), sr, torch.rand(1))
    gradients = torch.autograd.grad(penalty, [weight, sr], allow_unused=True)
    assert gradients[0].item() == pytest.approx(2.0)  # d (w - 1)^2 / dw at w = 2
    assert gradients[1] is None


def test_a_flat_judge_has_a_finite_penalty_gradient() -> None:
    weight = torch.tensor(0.0, requires_grad=True)
    images = torch.ones(1, 1, 1, 1)
    penalty = adversarial.wgan_gp(lambda x: weight * x.sum(dim=(1, 2, 3)), images, images, torch.rand(1))
    (gradient,) = torch.autograd.grad(penalty, weight)
    assert penalty.item() == pytest.approx(1.0)
    assert torch.isfinite(gradient)


def test_penalties_are_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(16, 1)]
    critic = nn.Sequential(*layers)
    hr, sr, mix = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4), torch.rand(2)
    expected = adversarial.wgan_gp(critic, hr, sr, mix)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(adversarial.wgan_gp(critic, hr, sr, mix), expected)


def test_a_total_is_the_weighted_sum_of_terms_that_are_logged_unweighted() -> None:
    terms = {"pixel": (0.5, torch.tensor(3.0)), "adversarial": (0.1, torch.tensor(2.0))}
    logged = {name: value.item() for name, value in adversarial.weighted("generator", terms).items()}
    assert logged == pytest.approx({"generator/total": 1.7, "generator/pixel": 3.0, "generator/adversarial": 2.0})


def test_pixel_losses_by_hand() -> None:
    sr, hr = torch.tensor([[[[0.5, 0.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    assert pixel.l1(sr, hr).item() == pytest.approx(0.75)
    assert pixel.mse(sr, hr).item() == pytest.approx(0.625)


def test_downscale_consistency_compares_block_means_with_the_input() -> None:
    sr = torch.arange(16.0).view(1, 1, 4, 4)  # block means 2.5, 4.5, 10.5, 12.5
    lr = torch.tensor([[[[2.5, 4.5], [10.5, 10.5]]]])
    assert pixel.downscale_consistency(sr, lr, 2).item() == pytest.approx(0.5)
