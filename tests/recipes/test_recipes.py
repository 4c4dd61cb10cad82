"""Facts of each published project: parameter counts, layers, losses, what a setting changes."""

import math

import pytest
import torch
import torch.nn.functional as F

from sisr import recipes
from sisr.config.settings import build
from sisr.data.draws import Draws
from sisr.errors import ConfigError
from sisr.recipe import Crop, parameter_count, parts_of
from sisr.recipes import encdec_gan, esrgan, pixelshuffle, srez, srgan_gp, srresnet


def no_update(optimizer, loss, *, retain_graph=False):
    """Leave everything as it is."""


class Recorder:
    """Leaves everything as it is and remembers which optimizers were asked to step."""

    def __init__(self):
        self.order = []

    def __call__(self, optimizer, loss, *, retain_graph=False):
        self.order.append(optimizer)


def draws(count: int) -> Draws:
    return Draws(0, 0, 0, count)


def test_pixelshuffle_has_the_published_parameter_count():
    assert parameter_count(pixelshuffle.generator(pixelshuffle.Config())) == 134_199


def test_pixelshuffle_has_the_published_layers():
    network = pixelshuffle.generator(pixelshuffle.Config())
    counts = [parameter_count(layer) for layer in (network.entry, network.expand, network.blocks, network.last)]
    assert counts == [4_800, 110_592, 7 * 2_640, 327]


def test_pixelshuffle_makes_512_of_128():
    config = pixelshuffle.Config()
    assert (config.scale, config.hr_crop) == (4, 512)


def test_pixelshuffle_starts_at_the_bicubic_upscaling():
    lr = torch.rand(1, 3, 8, 8)
    sr = pixelshuffle.generator(pixelshuffle.Config())(lr)
    inner = F.interpolate(lr, scale_factor=4, mode="bicubic", antialias=True)[..., 8:-8, 8:-8]
    torch.testing.assert_close(sr[..., 8:-8, 8:-8], inner)


def test_pixelshuffle_without_its_skip_and_zeros_is_a_plain_network():
    plain = pixelshuffle.generator(pixelshuffle.Config(bicubic_skip=False, zero_last=False))
    silent = pixelshuffle.generator(pixelshuffle.Config(bicubic_skip=False))
    lr = torch.rand(1, 3, 8, 8)
    assert plain(lr).abs().max() > 0
    assert silent(lr).abs().max() == 0


def test_pixelshuffle_blurs_each_image_by_its_own_width_and_can_be_told_not_to():
    step = torch.zeros(8, 3, 64, 64)
    step[..., 32:] = 1.0
    sharp = pixelshuffle.Recipe(pixelshuffle.tiny().model_copy(update={"blur_sigma_max": 0.0})).degrade(step, draws(8))
    blurred = pixelshuffle.Recipe(pixelshuffle.tiny()).degrade(step, draws(8))
    steepest = blurred.diff(dim=-1).abs().amax(dim=(1, 2, 3))
    assert len(steepest.unique()) > 2
    assert (steepest < sharp.diff(dim=-1).abs().max()).any()
    assert (sharp[0] == sharp).all()


def test_pixelshuffle_lr_is_what_an_8_bit_file_can_hold():
    lr = pixelshuffle.Recipe(pixelshuffle.tiny()).degrade(torch.rand(2, 3, 16, 16), draws(2))
    torch.testing.assert_close(lr * 255, (lr * 255).round(), atol=1e-4, rtol=0)


def test_pixelshuffle_follows_its_schedule():
    recipe = pixelshuffle.Recipe(pixelshuffle.tiny())
    lr, hr = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 16, 16)
    rates = [recipe.train_step(lr, hr, draws(2), step, no_update)["learning_rate"].item() for step in range(4)]
    assert rates == pytest.approx([2e-4 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"hr_crop": 30}, "hr_crop must be a multiple of scale 4, got 30"),
        ({"blur_sigma_min": 3.0}, "blur_sigma_max must be 0 or at least blur_sigma_min"),
        ({"num_hr_features": 10}, "num_hr_features"),
    ],
)
def test_pixelshuffle_refuses_settings_that_do_not_fit(values, wanted):
    with pytest.raises(ConfigError, match=wanted):
        build(pixelshuffle.Config, values)


def test_srez_has_the_published_parameter_counts():
    recipe = srez.Recipe(srez.Config())
    assert parameter_count(recipe.generator) == 3_844_451
    assert parameter_count(recipe.discriminator) == 4_175_937


def test_srez_has_the_published_layers():
    network = srez.generator(srez.Config())
    stages = [1_181_696, 1_180_672, 590_336, 328_320, 295_424, 147_712]
    assert [parameter_count(layer) for layer in network.body] == stages
    assert [parameter_count(layer) for layer in network.head] == [110_688, 0, 9_312, 0, 291]


def test_srez_cuts_the_published_box():
    crop = srez.Recipe(srez.Config()).crop
    expected = Crop(side=64, source_side=128, box=(17, 52, 144, 144), saturation=0.05, brightness=0.05, contrast=0.05)
    assert crop == expected


def test_srez_takes_half_size_faces_and_any_photographs():
    half = build(srez.Config, {"source_side": 64, "box": [8, 26, 72, 72]})
    assert srez.Recipe(half.model_copy(update={"generator_features": (8, 6, 4)})).crop.box == (8, 26, 72, 72)
    assert build(srez.Config, {"box": None}).box is None


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"source_side": 100}, "source_side must be a multiple of hr_crop 64, got 100"),
        ({"box": [8, 26, 72, 72]}, "box must hold a window of source_side 128 px"),
    ],
)
def test_srez_refuses_windows_that_do_not_fit(values, wanted):
    with pytest.raises(ConfigError, match=wanted):
        build(srez.Config, values)


def test_srez_losses_follow_the_paper():
    torch.manual_seed(0)
    config = srez.tiny().model_copy(update={"input_noise": 0.0})
    recipe = srez.Recipe(config)
    hr = torch.rand(4, 3, 32, 32)
    lr = recipe.degrade(hr, draws(4))
    logged = recipe.train_step(lr, hr, draws(4), 0, no_update)

    sr = recipe.generator(lr)
    real, fake = recipe.discriminator(hr), recipe.discriminator(sr)
    bce, one, zero = F.binary_cross_entropy_with_logits, torch.ones(4), torch.zeros(4)
    pixel = (F.interpolate(sr, scale_factor=0.25, mode="area") - lr).abs().mean()
    torch.testing.assert_close(logged["generator/total"], (0.1 * bce(fake, one) + 0.9 * pixel).detach())
    torch.testing.assert_close(logged["discriminator/total"], (bce(real, one) + bce(fake, zero)).detach())


def test_srez_noise_is_on_the_input_only():
    hr = torch.rand(4, 3, 32, 32)
    logged = []
    for noise in (0.0, 0.5):
        torch.manual_seed(0)
        recipe = srez.Recipe(srez.tiny().model_copy(update={"input_noise": noise}))
        logged.append(recipe.train_step(recipe.degrade(hr, draws(4)), hr, draws(4), 0, no_update))
    assert logged[0]["generator/pixel"] != logged[1]["generator/pixel"]
    assert logged[0]["discriminator/real_logits"] == logged[1]["discriminator/real_logits"]


def test_srez_halves_both_rates():
    recipe = srez.Recipe(srez.tiny())
    hr = torch.rand(4, 3, 32, 32)
    recipe.train_step(recipe.degrade(hr, draws(4)), hr, draws(4), 5, no_update)
    assert recipe.generator_optimizer.param_groups[0]["lr"] == recipe.discriminator_optimizer.param_groups[0]["lr"]
    assert recipe.generator_optimizer.param_groups[0]["lr"] == pytest.approx(2e-4 / 4)


def test_srez_starts_with_the_published_spread_of_weights():
    torch.manual_seed(0)
    network = srez.generator(srez.Config())
    spread = {name: weight.std().item() for name, weight in network.named_parameters() if name.endswith("weight")}
    shrink = 0.8796  # standard deviation of a normal cut at two of its own
    residual = shrink * math.sqrt(1e-3 / (256 * 9))
    assert spread["body.0.conv1.weight"] == pytest.approx(residual, rel=0.02)
    assert spread["head.0.weight"] == pytest.approx(shrink * math.sqrt(2 / (math.sqrt(128 * 96) * 9)), rel=0.02)
    assert spread["head.4.weight"] == pytest.approx(shrink * math.sqrt(1 / math.sqrt(96 * 3)), rel=0.1)


def test_srez_outputs_are_the_same_alone_and_in_a_batch_unless_batch_statistics_are_asked_for():
    images = torch.rand(4, 3, 8, 8)
    for statistics, equal in (("running", True), ("batch", False)):
        torch.manual_seed(0)
        config = srez.tiny().model_copy(update={"inference_statistics": statistics})
        generator = srez.generator(config).eval()
        assert torch.allclose(generator(images)[:1], generator(images[:1]), atol=1e-6) is equal


def test_a_mistyped_recipe_gets_a_suggestion():
    with pytest.raises(ConfigError, match="no recipe 'srz'; did you mean 'srez'"):
        recipes.load("srz")


def test_srgan_gp_has_the_published_parameter_counts():
    recipe = srgan_gp.Recipe(srgan_gp.Config(perceptual="none"))
    assert parameter_count(recipe.generator) == 16_697_987
    assert parameter_count(recipe.critic) == 23_561_793


def test_srgan_gp_keeps_the_published_module_names():
    names = set(srgan_gp.generator(srgan_gp.tiny()).state_dict())
    outer = {"conv_first", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"}
    dense = {f"body.0.rdb{i}.conv{j}" for i in (1, 2, 3) for j in (1, 2, 3, 4, 5)}
    assert names == {f"{module}.{kind}" for module in outer | dense for kind in ("weight", "bias")}


def test_srgan_gp_starts_with_a_tenth_of_kaimings_spread():
    torch.manual_seed(0)
    weight = srgan_gp.generator(srgan_gp.Config(perceptual="none", num_blocks=1)).conv_hr.weight
    assert weight.std().item() == pytest.approx(0.1 * math.sqrt(2 / (64 * 9)), rel=0.02)


def test_srgan_gp_losses_follow_the_paper():
    torch.manual_seed(0)
    config = srgan_gp.tiny().model_copy(update={"generator_steps": 1})
    recipe = srgan_gp.Recipe(config)
    hr = torch.rand(2, 3, 32, 32)
    lr = recipe.degrade(hr, draws(2))
    logged = recipe.train_step(lr, hr, draws(2), 0, no_update)

    sr = recipe.generator(lr).detach()
    mix = draws(2).uniform("mix").view(2, 1, 1, 1)
    mixed = (mix * hr + (1 - mix) * sr).requires_grad_()
    slope = torch.autograd.grad(recipe.critic(mixed).sum(), mixed)[0].flatten(1).norm(dim=1)
    real, fake = recipe.critic(hr).mean(), recipe.critic(sr).mean()
    torch.testing.assert_close(logged["critic/total"], (fake - real + 10 * (slope - 1).square().mean()).detach())
    assert recipe.vgg
    vgg = torch.stack([F.mse_loss(a, b) for a, b in zip(recipe.vgg(sr), recipe.vgg(hr), strict=True)]).sum()
    torch.testing.assert_close(logged["generator/total"], (1e-2 * F.l1_loss(sr, hr) + vgg - 5e-3 * fake).detach())


def test_srgan_gp_updates_the_critic_first_and_the_generator_as_often_as_asked():
    recipe = srgan_gp.Recipe(srgan_gp.tiny())
    hr, update = torch.rand(2, 3, 32, 32), Recorder()
    recipe.train_step(recipe.degrade(hr, draws(2)), hr, draws(2), 0, update)
    assert update.order == [recipe.critic_optimizer, recipe.generator_optimizer, recipe.generator_optimizer]


def test_srgan_gp_without_a_perceptual_loss_has_none():
    recipe = srgan_gp.Recipe(srgan_gp.tiny().model_copy(update={"perceptual": "none"}))
    hr = torch.rand(2, 3, 32, 32)
    logged = recipe.train_step(recipe.degrade(hr, draws(2)), hr, draws(2), 0, no_update)
    assert "vgg" not in parts_of(recipe)
    assert "generator/perceptual" not in logged


def test_encdec_gan_has_the_published_parameter_counts():
    recipe = encdec_gan.Recipe(encdec_gan.Config())
    assert parameter_count(recipe.generator) == 1_310_147
    assert parameter_count(recipe.discriminator) == 2_757_953


def test_encdec_gan_learns_by_pixels_first_and_leaves_its_judge_alone():
    recipe = encdec_gan.Recipe(encdec_gan.tiny())
    hr, update = torch.rand(4, 3, 32, 32), Recorder()
    lr = recipe.degrade(hr, draws(4))
    logged = recipe.train_step(lr, hr, draws(4), 0, update)
    assert update.order == [recipe.generator_optimizer]
    torch.testing.assert_close(logged["generator/total"], F.mse_loss(recipe.generator(lr), hr).detach())


def test_encdec_gan_alternates_with_several_generator_steps():
    recipe = encdec_gan.Recipe(encdec_gan.tiny())
    hr, update = torch.rand(4, 3, 32, 32), Recorder()
    recipe.train_step(recipe.degrade(hr, draws(4)), hr, draws(4), 1, update)
    assert update.order == [recipe.discriminator_optimizer, recipe.generator_optimizer, recipe.generator_optimizer]


def test_encdec_gan_noise_on_what_the_judge_sees_falls_to_nothing():
    hr = torch.rand(4, 3, 32, 32)
    config = encdec_gan.tiny().model_copy(update={"steps": 101, "penalty_weight": 0.0, "discriminator_norm": "none"})
    seen = []
    for step in (1, 51, 101):
        recipe = encdec_gan.Recipe(config)
        recipe.discriminator.register_forward_hook(lambda _, images, __: seen.append((images[0] - hr).std().item()))
        recipe.train_step(recipe.degrade(hr, draws(4)), hr, draws(4), step, no_update)
    assert seen[0::4] == pytest.approx([0.05, 0.025, 0.0], rel=0.05)  # of each step's four, the first sees hr


def test_encdec_gan_smooths_the_label_of_real_images():
    torch.manual_seed(0)
    config = encdec_gan.tiny().model_copy(update={"judge_noise": 0.0, "penalty_weight": 0.0})
    recipe = encdec_gan.Recipe(config)
    hr = torch.rand(4, 3, 32, 32)
    lr = recipe.degrade(hr, draws(4))
    logged = recipe.train_step(lr, hr, draws(4), 1, no_update)
    real, fake = recipe.discriminator(hr), recipe.discriminator(recipe.generator(lr))
    bce = F.binary_cross_entropy_with_logits
    expected = bce(real, torch.full((4,), 0.9)) + bce(fake, torch.zeros(4))
    torch.testing.assert_close(logged["discriminator/total"], expected.detach())


def test_encdec_gan_without_norm_has_biases_instead():
    kinds = {}
    for norm in ("batch", "none"):
        recipe = encdec_gan.Recipe(encdec_gan.tiny().model_copy(update={"discriminator_norm": norm}))
        kinds[norm] = {name.rsplit(".", 1)[1] for name in recipe.discriminator.state_dict()}
    assert "running_mean" in kinds["batch"]
    assert kinds["none"] == {"weight", "bias"}


def test_encdec_gan_refuses_a_pixel_phase_that_never_ends():
    with pytest.raises(ConfigError, match="pretrain_steps must be less than steps 100"):
        build(encdec_gan.Config, {"steps": 100})


@pytest.mark.parametrize(("scale", "count"), [(2, 1_369_859), (3, 1_554_499), (4, 1_517_571)])
def test_srresnet_has_the_published_parameter_counts(scale, count):
    assert parameter_count(srresnet.generator(srresnet.Config(scale=scale, hr_crop=96))) == count


def test_srresnet_keeps_the_published_module_names():
    names = set(srresnet.generator(srresnet.Config()).state_dict())
    outer = {"conv_first", "upconv1", "upconv2", "conv_hr", "conv_last"}
    blocks = {f"body.{i}.conv{j}" for i in range(16) for j in (1, 2)}
    assert names == {f"{module}.{kind}" for module in outer | blocks for kind in ("weight", "bias")}


def test_srresnet_restarts_its_cosine_four_times():
    recipe = srresnet.Recipe(srresnet.Config(num_blocks=1, num_features=8))
    rates = [recipe.learning_rate(step) for step in (0, 125_000, 249_999, 250_000, 999_999)]
    assert rates == pytest.approx([2e-4, 1.0005e-4, 1e-7, 2e-4, 1e-7], rel=1e-4)


@pytest.mark.parametrize(("name", "expected"), [("l1", F.l1_loss), ("mse", F.mse_loss)])
def test_srresnet_lowers_the_loss_asked_for(name, expected):
    torch.manual_seed(0)
    recipe = srresnet.Recipe(srresnet.tiny().model_copy(update={"pixel_loss": name}))
    hr = torch.rand(2, 3, 16, 16)
    lr = recipe.degrade(hr, draws(2))
    logged = recipe.train_step(lr, hr, draws(2), 0, no_update)
    torch.testing.assert_close(logged["generator/total"], expected(recipe.generator(lr), hr).detach())


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"scale": 3}, "hr_crop must be a multiple of scale 3, got 128"),
        ({"steps": 3}, "num_cycles must be at most steps 3, got 4"),
        ({"final_learning_rate": 1.0}, "final_learning_rate must be at most learning_rate, got 1"),
    ],
)
def test_srresnet_refuses_settings_that_do_not_fit(values, wanted):
    with pytest.raises(ConfigError, match=wanted):
        build(srresnet.Config, values)


def test_esrgan_has_the_published_parameter_counts():
    recipe = esrgan.Recipe(esrgan.Config(perceptual="none"))
    assert parameter_count(recipe.generator) == 16_697_987
    assert parameter_count(recipe.discriminator) == 14_499_401


def test_esrgan_keeps_the_published_module_names():
    recipe = esrgan.Recipe(esrgan.Config(perceptual="none", num_blocks=1))
    modules = {key.split(".")[0] for key in recipe.discriminator.state_dict()}
    pairs = {f"{kind}{i}_{j}" for kind in ("conv", "bn") for i in range(5) for j in (0, 1)} - {"bn0_0"}
    assert modules == pairs | {"linear1", "linear2"}


def esrgan_step(**values):
    """Return a recipe, a batch and what the recipe logs of it in its adversarial phase."""
    torch.manual_seed(0)
    recipe = esrgan.Recipe(esrgan.tiny().model_copy(update=values))
    hr = torch.rand(4, 3, 32, 32)
    lr = recipe.degrade(hr, draws(4))
    return recipe, lr, hr, recipe.train_step(lr, hr, draws(4), 1, no_update)


def test_esrgan_losses_follow_the_paper():
    recipe, lr, hr, logged = esrgan_step()
    sr = recipe.generator(lr)
    real, fake = recipe.discriminator(hr), recipe.discriminator(sr)
    real_wins, fake_wins = real - fake.mean(), fake - real.mean()
    bce, one, zero = F.binary_cross_entropy_with_logits, torch.ones(4), torch.zeros(4)
    torch.testing.assert_close(logged["discriminator/total"], (bce(real_wins, one) + bce(fake_wins, zero)).detach())
    adversarial = bce(real_wins, zero) + bce(fake_wins, one)
    vgg = torch.stack([F.l1_loss(a, b) for a, b in zip(recipe.vgg(sr), recipe.vgg(hr), strict=True)]).sum()
    torch.testing.assert_close(
        logged["generator/total"], (vgg + 5e-3 * adversarial + 1e-2 * F.l1_loss(sr, hr)).detach()
    )


def test_esrgan_updates_the_generator_first_after_its_pixel_phase():
    recipe, lr, hr, _ = esrgan_step()
    first, later = Recorder(), Recorder()
    logged = recipe.train_step(lr, hr, draws(4), 0, first)
    recipe.train_step(lr, hr, draws(4), 1, later)
    assert first.order == [recipe.generator_optimizer]
    torch.testing.assert_close(logged["generator/total"], F.l1_loss(recipe.generator(lr), hr).detach())
    assert later.order == [recipe.generator_optimizer, recipe.discriminator_optimizer]


def test_esrgan_halves_both_rates_at_the_published_steps():
    published = {"pretrain_steps": 0, "halve_at": esrgan.Config().halve_at}
    recipe, lr, hr, _ = esrgan_step(**published)
    rates = []
    for step in (0, 49_999, 50_000, 100_000, 200_000, 399_999):
        recipe.train_step(lr, hr, draws(4), step, no_update)
        rates.append(recipe.generator_optimizer.param_groups[0]["lr"])
        assert recipe.discriminator_optimizer.param_groups[0]["lr"] == rates[-1]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 2.5e-5, 1.25e-5, 6.25e-6])


def test_esrgan_uses_the_published_layer_and_can_do_without():
    assert esrgan.Config().perceptual_layers == ("conv5_4",)
    recipe, _, _, logged = esrgan_step(perceptual="none")
    assert "vgg" not in parts_of(recipe)
    assert "generator/perceptual" not in logged


def test_esrgan_refuses_a_pixel_phase_that_never_ends():
    with pytest.raises(ConfigError, match="pretrain_steps must be less than steps 100, got 100"):
        build(esrgan.Config, {"steps": 100, "pretrain_steps": 100})
