"""Batch normalisation against PyTorch's own, and two workers against one."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sisr.nets.batch_norm import BatchNorm
from two_workers import on_two_workers


def example(count: int = 6) -> Tensor:
    images = torch.randn(count, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return images * torch.tensor([1.0, 5.0, 0.2]).view(3, 1, 1) + 7.0


def judge() -> nn.Sequential:
    torch.manual_seed(1)
    norms = [BatchNorm(4, scale=True), BatchNorm(4)]
    layers = [nn.Conv2d(3, 4, 3), norms[0], nn.Softplus(), nn.Conv2d(4, 4, 1), norms[1], nn.Softplus()]
    return nn.Sequential(*layers, nn.Conv2d(4, 1, 1)).double()


def gradients_with_penalty(images: Tensor, world: int) -> dict[str, Any]:
    """One judge's loss with a penalty on its slope: two backward passes through the normalisation."""
    network = judge()
    images = images.requires_grad_()
    scores = network(images)
    (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    loss = scores.square().mean() + (slope.square().sum(dim=(1, 2, 3)).sqrt() - 1).square().mean()
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    for gradient in gradients:
        if world > 1:
            torch.distributed.all_reduce(gradient)
            gradient /= world
    return {
        "scores": scores.detach(),
        "slope": slope.detach(),
        "gradients": list(gradients),
        "buffers": {name: value.clone() for name, value in network.named_buffers()},
    }


def worker(rank: int) -> dict[str, Any]:
    shard = slice(rank * 3, rank * 3 + 3)
    half = BatchNorm(3)
    half_y = half(example()[shard].bfloat16()).detach()
    uneven = BatchNorm(3).double()(example()[:2] if rank == 0 else example()[2:]).detach()
    double = gradients_with_penalty(example()[shard], world=2)
    return {"double": double, "half": {"y": half_y, "var": half.running_var}, "uneven": uneven}


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return on_two_workers(worker, tmp_path_factory.mktemp("workers"))


@pytest.mark.parametrize("scale", [False, True])
def test_it_normalises_as_torch_does(scale: bool) -> None:
    ours, theirs = BatchNorm(3, scale=scale).double(), nn.BatchNorm2d(3, eps=1e-3).double()
    for _ in range(2):
        torch.testing.assert_close(ours(example()), theirs(example()))
    torch.testing.assert_close(ours.eval()(example()), theirs.eval()(example()))


def test_parameters_are_a_shift_and_only_where_asked_a_scale() -> None:
    assert [name for name, _ in BatchNorm(3).named_parameters()] == ["bias"]
    assert [name for name, _ in BatchNorm(3, scale=True).named_parameters()] == ["weight", "bias"]


def test_batch_statistics_in_evaluation_ignore_and_keep_the_running_ones() -> None:
    norm = BatchNorm(3, batch_statistics=True).double().eval()
    y = norm(example())
    torch.testing.assert_close(y.mean(dim=(0, 2, 3)), torch.zeros(3).double(), atol=1e-12, rtol=0)
    assert torch.equal(norm.running_mean, torch.zeros(3).double())


def test_half_precision_images_keep_float32_statistics() -> None:
    norm = BatchNorm(3)
    assert norm(example().bfloat16()).dtype == torch.bfloat16
    expected = 0.9 + 0.1 * example().bfloat16().double().var(dim=(0, 2, 3), correction=1)
    torch.testing.assert_close(norm.running_var.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.slow
def test_two_workers_normalise_like_one_through_two_backward_passes(workers: list[Any]) -> None:
    together = gradients_with_penalty(example(), world=1)
    first, second = (w["double"] for w in workers)
    exact: dict[str, Any] = {"atol": 1e-10, "rtol": 1e-10}
    torch.testing.assert_close(torch.cat([first["scores"], second["scores"]]), together["scores"], **exact)
    torch.testing.assert_close(torch.cat([first["slope"], second["slope"]]), together["slope"], **exact)
    torch.testing.assert_close(first["gradients"], together["gradients"], **exact)
    torch.testing.assert_close(first["buffers"], together["buffers"], **exact)
    for name, value in first["buffers"].items():
        assert torch.equal(value, second["buffers"][name]), f"workers hold different {name}"


@pytest.mark.slow
def test_shards_of_different_size_share_exact_statistics(workers: list[Any]) -> None:
    together = BatchNorm(3).double()(example()).detach()
    torch.testing.assert_close(torch.cat([w["uneven"] for w in workers]), together, atol=1e-12, rtol=0)


@pytest.mark.slow
def test_workers_share_float32_statistics_of_half_precision_images(workers: list[Any]) -> None:
    norm = BatchNorm(3)
    y = norm(example().bfloat16()).detach()
    first, second = (w["half"] for w in workers)
    assert first["y"].dtype == torch.bfloat16
    torch.testing.assert_close(torch.cat([first["y"], second["y"]]), y)
    torch.testing.assert_close(first["var"], norm.running_var)
