import torch
from torch import nn

from sisr.training.ema import RAMP_UP, Ema


def test_half_of_the_old_average_remains_after_one_half_life() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    ema = Ema(network, half_life_images=100)
    nn.init.ones_(network.weight)
    for _ in range(10):
        ema.update(network, images_seen=10**9, batch_size=10)
    torch.testing.assert_close(float(ema.network.state_dict()["weight"]), 0.5, rtol=1e-5, atol=0)


def test_the_half_life_grows_with_the_images_seen() -> None:
    ema = Ema(nn.Linear(1, 1), half_life_images=10_000)
    seen = 1000
    assert ema.decay(seen, 16) == 0.5 ** (16 / (RAMP_UP * seen))


def test_a_half_life_of_zero_follows_exactly() -> None:
    network = nn.Linear(2, 2)
    ema = Ema(network, half_life_images=0)
    nn.init.normal_(network.weight)
    ema.update(network, 16, 16)
    assert torch.equal(ema.network.state_dict()["weight"], network.weight)


def test_running_statistics_are_copied_and_the_average_stays_in_evaluation_mode() -> None:
    network = nn.BatchNorm2d(3)
    ema = Ema(network, half_life_images=1000)
    network(torch.randn(4, 3, 5, 5))
    ema.update(network, 4, 4)
    kept = ema.network.state_dict()
    assert torch.equal(kept["running_mean"], network.state_dict()["running_mean"])
    assert kept["num_batches_tracked"] == 1
    assert not ema.network.training
    assert not any(p.requires_grad for p in ema.network.parameters())
