"""Metrics that are measured where they are asked for: each is what its authors' program computes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sisr.errors import ConfigError
from sisr.metrics import dists, fid, niqe, perceptual
from sisr.metrics.catalogue import FURTHER, METRICS
from sisr.metrics.planes import luma

CPU = torch.device("cpu")
WINDOW = np.outer(*[np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))] * 2)
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)  # of VGG-16's convolutions
FULL_SIZE = [
    1.44333333, 0.289878788, 0.524333333, 0.0421390049, 0.0046782506, 0.0159454397, 0.522666667, 0.0384355096,
    0.00490004812, 0.0159056059, 0.556833333, 0.0527920738, 0.00419392407, 0.0187881584, 0.551833333, 0.0411969173,
    0.00646761092, 0.0180241335,
]  # fmt: skip
OF_DISTS = 0.2267426
WINDOW /= WINDOW.sum()  # of MATLAB's fspecial('gaussian', 7, 7/6)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def picture(height: int = 220, width: int = 300) -> Tensor:
    """A picture of 8 bits with edges, waves and a gradient, (1, 3, h, w) in [0, 1]."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    grey = 110 + 50 * np.sin(x * y / 700) + 40 * np.sin(x / 3.1) * np.cos(y / 5.7) + 20 * (x > y)
    pixels = np.stack([grey, grey * 0.9 + 10, 255 - grey]).clip(0, 255).round()
    return torch.from_numpy(pixels / 255)[None]


def pristine(hub: Path) -> Path:
    path = hub / "niqe_pris_params.npz"
    np.savez(path, mu_pris_param=np.full((1, 36), 0.5), cov_pris_param=np.eye(36), gaussian_window=WINDOW)
    return path


def test_what_can_not_be_had_is_one_line_each_that_names_the_file_and_ends_nothing(hub: Path) -> None:
    names, lines = perceptual.further(",".join(metric.name for metric in FURTHER))
    assert names == []
    assert [line.partition(" ")[0] for line in lines] == ["dists", "niqe", "fid"]
    assert f"{hub / 'niqe_pris_params.npz'}: put https://" in lines[1]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no further metric 'nique'; did you mean 'niqe'"):
        perceptual.further("dists,nique")


def test_images_too_small_for_a_metric_leave_it_out(hub: Path) -> None:
    pristine(hub)
    assert perceptual.further("niqe", least=192) == (["niqe"], [])
    assert perceptual.further("niqe", least=191)[1] == [
        "niqe is left out: it needs images of 192 px a side, the smallest has 191"
    ]


def test_a_damaged_file_is_a_line_that_says_by_what_to_replace_it(hub: Path) -> None:
    (hub / "niqe_pris_params.npz").write_bytes(b"damaged")
    built, (line,) = perceptual.build_further("niqe", CPU)
    assert built == []
    assert f"replace it by {METRICS['niqe'].weights}" in line


def test_niqe_is_what_basicsr_computes_of_the_same_blocks(hub: Path) -> None:
    # The features of BasicSR's program (which halves by OpenCV: so of the full size) of this plane.
    plane = 255 * picture()[0, 0].numpy()
    found = niqe.features(plane, WINDOW)
    assert found.shape == (6, 36)
    assert found[:, :18].mean(axis=0) == pytest.approx(FULL_SIZE, rel=1e-6)


def test_niqe_is_the_distance_of_equation_10(hub: Path) -> None:
    pristine(hub)
    ((measure,), _) = perceptual.build_further("niqe", CPU)
    sr = picture()
    found = niqe.features(luma(sr)[0, 0].numpy(), WINDOW)
    apart = found.mean(axis=0) - 0.5
    expected = math.sqrt(apart @ np.linalg.solve((np.eye(36) + np.cov(found.T)) / 2, apart))
    assert measure.evidence(sr, torch.zeros_like(sr)) == pytest.approx(expected, rel=1e-9)
    assert math.isnan(measure.evidence(torch.zeros_like(sr), sr)), "one colour has no statistics"


def test_frechet_distance_is_that_of_the_definition() -> None:
    from scipy.linalg import sqrtm  # type: ignore[import-untyped]

    random = np.random.default_rng(0)
    ours, theirs = random.normal(size=(40, 5)), random.normal(1, 2, size=(30, 5))
    first, second = np.cov(ours.T), np.cov(theirs.T)
    apart = ours.mean(axis=0) - theirs.mean(axis=0)
    expected = apart @ apart + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert fid.frechet(ours, theirs) == pytest.approx(expected, rel=1e-9)
    assert fid.frechet(ours, ours) == pytest.approx(0, abs=1e-9)
    few = random.normal(size=(3, 2048))  # of which no root of a covariance can be had
    assert fid.frechet(few, few + 2) == pytest.approx(4 * 2048, rel=1e-9)


def test_patches_lie_side_by_side_around_the_middle() -> None:
    image = torch.arange(3 * 300 * 200, dtype=torch.float32).reshape(1, 3, 300, 200)
    found = fid.patches(image)
    assert found.shape == (2, 3, 128, 128)
    assert (found[1] == image[0, :, 22 + 128 : 22 + 256, 36 : 36 + 128]).all()


def test_fid_without_an_image_is_the_distance_of_the_others() -> None:
    measure = fid.Fid(lambda patches: [patches.mean(dim=(2, 3), keepdim=True)], CPU)
    random = torch.Generator().manual_seed(0)
    images = [torch.rand(2, 1, 3, 128, 256, generator=random) for _ in range(4)]
    evidence = [measure.evidence(sr, hr) for sr, hr in images]
    assert measure.values_without(evidence, [[1], []]) == [
        measure.value([evidence[0], *evidence[2:]]),
        measure.value(evidence),
    ]


def waves(*shape: int, phase: float) -> Tensor:
    """Values that every version of torch makes alike."""
    return torch.sin(0.37 * torch.arange(math.prod(shape)) ** 1.1 + phase).reshape(shape)


@pytest.fixture
def vgg16(hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """VGG-16 as torchvision's file names it, and what DISTS's authors have learned, both made of waves."""
    state, before = {}, 3
    for number, channels in zip((n for stage in dists.STAGES for n in stage), WIDTHS, strict=True):
        state[f"features.{number}.weight"] = waves(channels, before, 3, 3, phase=number) * (4 / (9 * before)) ** 0.5
        state[f"features.{number}.bias"] = 0.1 * waves(channels, phase=number)
        before = channels
    torch.save(state, hub / "vgg16-397923af.pth")
    package = hub.parents[1] / "DISTS_pytorch"
    package.mkdir()
    (package / "__init__.py").touch()
    learned = {n: 1 + waves(1, sum(dists.CHANNELS), 1, 1, phase=phase) for n, phase in (("alpha", 0), ("beta", 1))}
    torch.save(learned, package / "weights.pt")
    monkeypatch.syspath_prepend(str(package.parent))
    return hub / "vgg16-397923af.pth"


def test_dists_is_what_its_authors_program_computes(vgg16: Path) -> None:
    ((measure,), lines) = perceptual.build_further("dists", CPU)
    assert lines == []
    hr = picture(40, 56)
    sr = 0.9 * torch.roll(hr, (2, 1), (2, 3))
    # DISTS_pytorch 0.1 with the same numbers.
    assert measure.evidence(sr, hr) == pytest.approx(OF_DISTS, abs=2e-5)
    assert measure.evidence(hr, hr) == pytest.approx(0, abs=2e-5)


def test_dists_names_the_file_that_is_not_vgg16(vgg16: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(1)}, vgg16)
    _, (line,) = perceptual.build_further("dists", CPU)
    assert f"replace it by {METRICS['dists'].weights}" in line
