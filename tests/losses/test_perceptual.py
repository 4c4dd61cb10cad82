"""VGG-19 features against torchvision's network, and real weights on real images."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.models.vgg import cfgs, make_layers  # type: ignore[import-untyped]

from sisr.errors import ConfigError
from sisr.losses import perceptual
from sisr.losses.perceptual import Vgg19, feature_l1, feature_mse

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@pytest.fixture(scope="module")
def torchvision_features(tmp_path_factory):
    """torchvision's layers with random weights, and a file that holds them as torchvision's files do."""
    torch.manual_seed(0)
    layers = make_layers(cfgs["E"]).eval()
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    classifier = {"classifier.0.weight": torch.zeros(4, 4), "classifier.0.bias": torch.zeros(4)}
    torch.save({f"features.{key}": value for key, value in layers.state_dict().items()} | classifier, path)
    return layers, str(path)


@pytest.mark.parametrize(("layer", "end"), [("conv1_1", 1), ("relu2_2", 9), ("relu5_4", 36)])
def test_features_are_torchvisions(torchvision_features, layer, end):
    layers, path = torchvision_features
    images = torch.rand(2, 3, 32, 32)
    (ours,) = Vgg19([layer], path)(images)
    torch.testing.assert_close(ours, layers[:end]((images - MEAN) / STD), rtol=1e-4, atol=1e-5)


def test_normalisation_can_be_switched_off(torchvision_features):
    layers, path = torchvision_features
    images = torch.rand(2, 3, 16, 16)
    (ours,) = Vgg19(["relu1_2"], path, normalise=False)(images)
    torch.testing.assert_close(ours, layers[:4](images), rtol=1e-4, atol=1e-5)


def test_several_layers_come_in_the_order_asked_for():
    several = Vgg19(["relu2_1", "conv1_2"], "random")(torch.rand(1, 3, 16, 16))
    assert [tuple(features.shape) for features in several] == [(1, 128, 8, 8), (1, 64, 16, 16)]


def test_nothing_of_it_is_trained_or_saved():
    network = Vgg19(["relu1_1"], "random")
    assert not list(network.parameters())
    assert not network.state_dict()
    assert network.double()(torch.rand(1, 3, 8, 8).double())[0].dtype == torch.float64


def test_building_it_draws_no_random_number():
    before = torch.get_rng_state()
    Vgg19(["relu3_1"], "random")
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_constant_has_the_same_features_and_no_graph():
    network, images = Vgg19(["relu1_2"], "random"), torch.rand(1, 3, 8, 8, requires_grad=True)
    (with_graph,), (without,) = network(images), network.constant(images)
    assert torch.equal(with_graph, without)
    assert with_graph.requires_grad
    assert not without.requires_grad


def test_feature_distances_by_hand():
    sr, hr = [torch.tensor([1.0, 3.0]), torch.tensor([2.0])], [torch.tensor([0.0, 1.0]), torch.tensor([5.0])]
    assert feature_mse(sr, hr).item() == pytest.approx(2.5 + 9.0)
    assert feature_l1(sr, hr).item() == pytest.approx(1.5 + 3.0)


def test_gradients_reach_sr_and_not_hr():
    network = Vgg19(["relu1_2"], "random")
    sr, hr = torch.rand(1, 3, 8, 8, requires_grad=True), torch.rand(1, 3, 8, 8, requires_grad=True)
    feature_mse(network(sr), network(hr)).backward()
    assert sr.grad is not None
    assert hr.grad is None


def test_bf16_loses_little():
    network, images = Vgg19(["relu2_2"], "random"), torch.rand(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        (rough,) = network(images)
    (exact,) = network(images)
    assert (rough - exact).abs().mean() < 0.01 * exact.abs().mean()


@pytest.mark.parametrize(
    ("layers", "weights", "wanted"),
    [
        (["relu6_1"], "random", "VGG-19 has no layer 'relu6_1'; it has conv1_1"),
        (["5_4"], "random", "VGG-19 has no layer '5_4'"),
        (["relu1_1"], "imagnet", "no weights 'imagnet': give imagenet, random, none or an existing file"),
    ],
)
def test_what_can_not_be_used_is_named(layers, weights, wanted):
    with pytest.raises(ConfigError, match=wanted):
        Vgg19(layers, weights)


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save({"body.weight": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ConfigError, match="does not hold the convolutions of VGG-19"):
        Vgg19(["relu1_1"], str(tmp_path / "other.pth"))
    with pytest.raises(ConfigError, match="can't be read as weights"):
        Vgg19(["relu1_1"], str(tmp_path / "text.pth"))


def test_without_a_network_the_error_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(perceptual, "URL", "http://127.0.0.1:9/vgg19-dcbb9e9d.pth")
    with pytest.raises(ConfigError) as error:
        Vgg19(["relu1_1"])
    assert os.path.join(tmp_path, "hub", "checkpoints", "vgg19-dcbb9e9d.pth") in str(error.value)
    assert "perceptual=none" in str(error.value)


@pytest.mark.data
def test_real_weights_see_detail_that_pixels_hardly_miss(shared_data):
    weights = shared_data / "weights" / "perceptual" / "vgg19_normalised_conv3_1.pth"
    network = Vgg19(["relu3_1"], str(weights))
    with Image.open(shared_data / "Set5" / "HR" / "butterfly.png") as file:
        hr = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1)[None, :, :128, :128] / 255
    blurred = F.interpolate(F.avg_pool2d(hr, 4), scale_factor=4, mode="bicubic").clamp(0, 1)
    shifted = hr + (blurred - hr).abs().mean()  # as far away in L1, but sharp
    features = network(hr)
    assert 0.5 < features[0].mean().item() < 2.0  # the weights were scaled to 1, on average over photographs
    assert feature_mse(network(blurred), features) > 3 * feature_mse(network(shifted), features)


@pytest.mark.data
def test_layers_deeper_than_the_file_are_refused(shared_data):
    weights = shared_data / "weights" / "perceptual" / "vgg19_normalised_conv3_1.pth"
    with pytest.raises(ConfigError, match="ends at conv3_1"):
        Vgg19(["relu5_4"], str(weights))
