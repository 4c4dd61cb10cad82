"""Facts of Real-ESRGAN: parameter counts, published names, losses against torch's own, what a degradation changes."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sisr import recipes
from sisr.config.settings import build, parse_override
from sisr.data.draws import Draws
from sisr.errors import ConfigError
from sisr.nets.unet import SpectralConv, UNetDiscriminatorSN
from sisr.recipe import parameter_count
from sisr.recipes import pixelshuffle, realesrgan, srresnet

DRAWS = Draws(0, 0, 0, 4)


class Recorder:
    """Leaves everything as it is and remembers which optimizers were asked to step."""

    def __init__(self):
        self.order = []

    def __call__(self, optimizer, loss, *, retain_graph=False):
        self.order.append(optimizer)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({}, 16_697_987),
        ({"generator": "compact"}, 1_213_296),
        ({"generator": "compact", "num_convolutions": 16}, 621_424),
    ],
)
def test_the_generators_have_the_published_parameter_counts(values, count):
    assert parameter_count(realesrgan.generator(realesrgan.Config(**values))) == count


def test_the_judge_has_the_published_parameter_count_and_names():
    judge = UNetDiscriminatorSN()
    assert parameter_count(judge) == 4_376_897
    plain = {f"conv{i}.{kind}" for i in (0, 9) for kind in ("weight", "bias")}
    normed = {f"conv{i}.weight_{kind}" for i in range(1, 9) for kind in ("orig", "u", "v")}
    assert judge.state_dict().keys() == plain | normed


def test_the_judge_is_its_published_layers_and_loads_their_weights():
    torch.manual_seed(0)
    sizes = [(3, 4, 3), (4, 8, 4), (8, 16, 4), (16, 32, 4), (32, 16, 3), (16, 8, 3), (8, 4, 3), (4, 4, 3), (4, 4, 3)]
    layers = nn.ModuleDict({"conv9": nn.Conv2d(4, 1, 3, padding=1)})
    for i, (inputs, outputs, side) in enumerate(sizes):
        conv = nn.Conv2d(inputs, outputs, side, 2 if side == 4 else 1, 1, bias=i == 0)
        layers[f"conv{i}"] = conv if i == 0 else nn.utils.spectral_norm(conv)

    def published(x):
        def act(name, value):
            return F.leaky_relu(layers[name](value), 0.2)

        def up(value):
            return F.interpolate(value, scale_factor=2, mode="bilinear", align_corners=False)

        x0 = act("conv0", x)
        x1 = act("conv1", x0)
        x2 = act("conv2", x1)
        x4 = act("conv4", up(act("conv3", x2))) + x2
        x5 = act("conv5", up(x4)) + x1
        x6 = act("conv6", up(x5)) + x0
        return layers["conv9"](act("conv8", act("conv7", x6)))

    ours, images = UNetDiscriminatorSN(4), torch.rand(2, 3, 16, 24)
    ours.load_state_dict(layers.state_dict())
    for _ in range(2):  # in training mode each pass improves the estimates
        torch.testing.assert_close(ours(images), published(images))
    for network in (ours, layers):
        network.eval()
    torch.testing.assert_close(ours(images), published(images))
    ours.load_state_dict(layers.state_dict())


def test_spectral_normalisation_brings_the_largest_singular_value_to_1():
    torch.manual_seed(0)
    conv = SpectralConv(8, 16, 3)
    for _ in range(50):
        conv(torch.zeros(1, 8, 4, 4))
    conv.eval()
    weight = torch.autograd.functional.jacobian(conv, torch.zeros(1, 8, 1, 1))  # one pixel sees the kernel's middle
    largest = torch.linalg.matrix_norm(conv.weight_orig.detach().flatten(1), 2)
    torch.testing.assert_close(weight.flatten(), (conv.weight_orig[:, :, 1, 1] / largest).detach().flatten())


def test_the_judge_says_which_sizes_it_takes():
    with pytest.raises(ValueError, match="multiples of 8, got 16x20"):
        UNetDiscriminatorSN(4)(torch.rand(1, 3, 16, 20))


def test_losses_follow_the_paper():
    torch.manual_seed(0)
    recipe = realesrgan.Recipe(realesrgan.tiny())
    hr = torch.rand(4, 3, 32, 32)
    lr, updates = recipe.degrade(hr, DRAWS), Recorder()
    logged = recipe.train_step(lr, hr, DRAWS, 1, updates)
    recipe.discriminator.eval()  # no further power iteration
    sr, aim = recipe.generator(lr), recipe.aim(hr)
    assert (aim - hr).abs().max() > 0.01
    bce, fake = F.binary_cross_entropy_with_logits, recipe.discriminator(sr)
    assert recipe.vgg is not None
    layers = zip((0.1, 1.0), recipe.vgg(sr), recipe.vgg(aim), strict=True)
    vgg = torch.stack([weight * F.l1_loss(a, b) for weight, a, b in layers]).sum()
    total = F.l1_loss(sr, aim) + vgg + 0.1 * bce(fake, torch.ones_like(fake))
    torch.testing.assert_close(logged["generator/total"], total.detach(), rtol=1e-3, atol=1e-4)
    real = recipe.discriminator(hr)
    judged = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
    torch.testing.assert_close(logged["discriminator/total"], judged.detach(), rtol=1e-3, atol=1e-4)
    assert updates.order == [recipe.generator_optimizer, recipe.discriminator_optimizer]


def test_the_pixel_phase_steps_the_generator_alone_towards_sharpened_images():
    recipe, hr, updates = realesrgan.Recipe(realesrgan.tiny()), torch.rand(4, 3, 32, 32), Recorder()
    lr = recipe.degrade(hr, DRAWS)
    logged = recipe.train_step(lr, hr, DRAWS, 0, updates)
    assert updates.order == [recipe.generator_optimizer]
    torch.testing.assert_close(logged["generator/total"], F.l1_loss(recipe.generator(lr), recipe.aim(hr)).detach())
    assert logged["learning_rate"] == pytest.approx(2e-4)


def test_the_published_settings_are_the_defaults():
    c = realesrgan.Config()
    assert (c.hr_crop, c.batch_size, c.beta1, c.beta2, c.learning_rate) == (256, 48, 0.9, 0.99, 1e-4)
    assert (c.pixel_weight, c.perceptual_weight, c.adversarial_weight) == (1.0, 1.0, 0.1)
    weights = dict(zip(c.perceptual_layers, c.perceptual_layer_weights, strict=True))
    assert weights == {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"steps": 100, "pretrain_steps": 100}, "pretrain_steps must be less than steps 100, got 100"),
        ({"perceptual_layers": ["conv1_2"]}, "perceptual_layer_weights must be 1, one for each layer, got 5"),
        ({"degradation": "real_esrgn"}, "degradation.* wants bicubic, area, .*; did you mean 'real_esrgan'"),
        ({"degradation": {"kind": "real_esrgan", "first": {"sigm": [1, 2]}}}, "no setting 'first.sigm'"),
        ({"degradation": {"kind": "bicubic", "sigma": [1, 2]}}, "no setting 'sigma'"),
        ({"degradation": 3}, "wants bicubic, area"),
        ({"degradation": None}, "wants bicubic, area"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, wanted):
    with pytest.raises(ConfigError, match=wanted):
        build(realesrgan.Config, values)


@pytest.mark.parametrize("name", ["pixelshuffle", "srresnet", "esrgan", "srgan_gp", "encdec_gan", "finetune"])
def test_a_degradation_is_a_setting_of_every_recipe_whose_loss_allows_any(name):
    module = recipes.load(name)
    before = module.tiny()
    hr = torch.rand(2, 3, before.hr_crop, before.hr_crop)
    plain = module.Recipe(before).degrade(hr, Draws(0, 0, 0, 2))
    for kind in ("area", "blur", "real_esrgan", "bsrgan"):
        written = parse_override(f"degradation={{kind: {kind}{', sigma: [1.0, 1.5]' if kind == 'blur' else ''}}}")
        config = build(module.Config, {**before.model_dump(mode="json"), written[0]: written[1]})
        lr = module.Recipe(config).degrade(hr, Draws(0, 0, 0, 2))
        assert lr.shape == plain.shape
        assert (lr - plain).abs().max() > 0.01
        assert build(module.Config, json.loads(config.model_dump_json())) == config


def test_settings_recorded_before_there_were_degradations_mean_what_they_meant():
    recorded = srresnet.tiny().model_dump(mode="json")
    assert recorded.pop("degradation") is None
    assert build(srresnet.Config, recorded) == srresnet.tiny()


def test_pixelshuffle_refuses_its_own_blur_beside_another_degradation():
    with pytest.raises(ConfigError, match="blur_sigma_min and blur_sigma_max belong to no other degradation"):
        build(pixelshuffle.Config, {"degradation": "bicubic", "blur_sigma_max": 1.0})
