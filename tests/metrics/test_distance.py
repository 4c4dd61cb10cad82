"""Perceptual distances: which of them a run gets, and that each measures what its name says."""

import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.vgg import cfgs, make_layers  # type: ignore[import-untyped]

from sisr.errors import ConfigError
from sisr.metrics import perceptual, swd

CPU = torch.device("cpu")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def alexnet(hub: Path) -> Path:
    """AlexNet's convolutions as torchvision's file names them, with random weights."""
    random = torch.Generator().manual_seed(0)
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    state = {}
    for number, shape in shapes.items():
        fan = shape[1] * shape[2] * shape[3]
        state[f"features.{number}.weight"] = torch.randn(shape, generator=random) * (2 / fan) ** 0.5
        state[f"features.{number}.bias"] = 0.1 * torch.randn(shape[0], generator=random)
    path = hub / "alexnet-owt-7be5be79.pth"
    torch.save(state | {"classifier.1.bias": torch.zeros(4)}, path)
    return path


@pytest.fixture
def vgg(hub: Path) -> Path:
    """VGG-19 as torchvision's file names it, with random weights, up to relu3_1."""
    torch.manual_seed(0)
    layers = make_layers(cfgs["E"])[:12]
    path = hub / "vgg19-dcbb9e9d.pth"
    torch.save({f"features.{name}": value for name, value in layers.state_dict().items()}, path)
    return path


def pair(side: int = 48) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    hr = torch.rand(1, 3, side, side, generator=random)
    return F.avg_pool2d(hr, 3, 1, 1), hr


def test_without_weights_auto_is_the_distance_that_needs_none(hub: Path) -> None:
    assert perceptual.offered("auto") == ["swd"]


def test_auto_prefers_lpips_then_vgg_then_swd(alexnet: Path, vgg: Path) -> None:
    pytest.importorskip("lpips")
    assert perceptual.offered("auto") == ["lpips", "vgg", "swd"]
    assert perceptual.offered("auto", least=30) == ["vgg", "swd"], "AlexNet wants 31 px"
    alexnet.unlink()
    assert perceptual.offered("auto") == ["vgg", "swd"]


def test_none_is_none(hub: Path) -> None:
    assert perceptual.offered("none") == []


def test_lpips_without_weights_says_which_file_to_put_where(hub: Path) -> None:
    pytest.importorskip("lpips")
    with pytest.raises(ConfigError) as error:
        perceptual.offered("lpips")
    assert str(hub / "alexnet-owt-7be5be79.pth") in str(error.value)
    assert "put https://download.pytorch.org/models/alexnet-owt-7be5be79.pth there" in str(error.value)


def test_vgg_without_weights_says_which_file_to_put_where(hub: Path) -> None:
    with pytest.raises(ConfigError) as error:
        perceptual.offered("vgg")
    assert str(hub / "vgg19-dcbb9e9d.pth") in str(error.value)
    assert "vgg19-dcbb9e9d.pth there, or choose perceptual=swd" in str(error.value)


def test_lpips_without_its_package_says_what_to_install(alexnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    assert perceptual.offered("auto") == ["swd"]
    with pytest.raises(ConfigError, match=r"pip install 'sisr\[perceptual\]'"):
        perceptual.offered("lpips")


def test_lpips_of_images_too_small_for_it_is_refused(alexnet: Path) -> None:
    pytest.importorskip("lpips")
    with pytest.raises(ConfigError, match="needs images of 31 px a side, the smallest has 20"):
        perceptual.offered("lpips", least=20)


def test_a_word_that_is_neither_a_choice_nor_a_file_lists_the_choices(hub: Path) -> None:
    with pytest.raises(ConfigError, match=r"lpips, vgg, swd, none or a VGG-19 weights file; 'lpisp' is none of these"):
        perceptual.offered("lpisp")


def test_a_damaged_weights_file_is_named(alexnet: Path) -> None:
    pytest.importorskip("lpips")
    alexnet.write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"alexnet-owt-7be5be79\.pth can't be read as AlexNet's weights"):
        perceptual.build("lpips", CPU)
    torch.save({"features.0.weight": torch.zeros(1)}, alexnet)
    with pytest.raises(ConfigError, match=r"can't be read as AlexNet's weights \('features.0.bias'\)"):
        perceptual.build("lpips", CPU)


@pytest.mark.slow
def test_lpips_is_what_the_package_computes_with_these_weights_on_minus_one_to_one(alexnet: Path) -> None:
    lpips = pytest.importorskip("lpips")
    state = torch.load(alexnet, weights_only=True)
    with warnings.catch_warnings(action="ignore"):
        reference = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    for number, module in [(0, 1), (3, 2), (6, 3), (8, 4), (10, 5)]:
        layer = getattr(reference.net, f"slice{module}").get_submodule(str(number))
        layer.load_state_dict({kind: state[f"features.{number}.{kind}"] for kind in ("weight", "bias")})
    sr, hr = pair()
    distance = perceptual.build("lpips", CPU)
    with torch.inference_mode():
        expected = reference(sr, hr, normalize=True).item()
        assert distance.evidence(sr.double(), hr.double()) == pytest.approx(expected, rel=1e-5)
    assert expected > 1e-4
    assert distance.value([1.0, 2.0, 6.0]) == 3.0


def test_building_lpips_leaves_a_runs_random_numbers_alone(alexnet: Path) -> None:
    pytest.importorskip("lpips")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    perceptual.build("lpips", CPU)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("wanted", ["vgg", "a file"])
def test_the_vgg_distance_is_of_torchvisions_features_of_normalised_images(vgg: Path, wanted: str) -> None:
    torch.manual_seed(0)
    layers = make_layers(cfgs["E"])[:12].eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    sr, hr = pair()
    distance = perceptual.build(str(vgg) if wanted == "a file" else wanted, CPU)
    with torch.inference_mode():
        ours, theirs = (layers((image - mean) / std) for image in (sr, hr))
        expected = (ours - theirs).square().mean().item()
        assert distance.evidence(sr, hr) == pytest.approx(expected, rel=1e-4)
    assert (distance.name, distance.power, distance.stamp) == (
        "vgg_relu3_1",
        2,
        "vgg19-relu3_1-mse(vgg19-dcbb9e9d.pth)",
    )


def test_swd_is_of_all_images_together(hub: Path) -> None:
    sr, hr = pair()
    distance = perceptual.build("swd", CPU)
    evidence = [distance.evidence(sr, hr), distance.evidence(hr, sr)]  # as sets of patches both are the same
    assert distance.value(evidence) < 1e-9 < distance.value(evidence[:1])
    assert distance.value(evidence[:1]) == swd.Swd().value([(swd.patches(sr), swd.patches(hr))])


@pytest.mark.data
def test_real_vgg_weights_tell_bicubic_from_hr(shared_data: Path) -> None:
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor  # type: ignore[import-untyped]

    with Image.open(shared_data / "Set5" / "HR" / "butterfly.png") as file:
        hr = pil_to_tensor(file.convert("RGB"))[None, :, :128, :128] / 255
    blurred = F.interpolate(F.avg_pool2d(hr, 4), scale_factor=4, mode="bicubic").clamp(0, 1)
    weights = shared_data / "weights" / "perceptual" / "vgg19_normalised_conv3_1.pth"
    distance = perceptual.build(str(weights), CPU)
    with torch.inference_mode():
        assert 1 < distance.evidence(blurred, hr) < 30
        assert distance.evidence(hr, hr) == 0.0
