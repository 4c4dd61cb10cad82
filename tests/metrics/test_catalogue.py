"""The table of metrics: what others read from it."""

import pytest

from sisr.errors import ConfigError
from sisr.losses.perceptual import URL
from sisr.metrics import catalogue
from sisr.metrics.catalogue import (
    ANY_DISTANCE,
    METRICS,
    PERCEPTUAL_CHOICES,
    PERCEPTUAL_MEANING,
    PIXELS,
    metric,
    value_of,
)
from sisr.metrics.planes import of_planes


@pytest.mark.parametrize("entry", PIXELS, ids=lambda entry: entry.name)
def test_the_file_of_a_pixel_metric_has_a_function_of_its_name(entry) -> None:
    assert of_planes(entry).__name__ == entry.file


def test_whoever_asks_what_can_be_chosen_is_told_every_choice() -> None:
    assert [word for word in PERCEPTUAL_CHOICES if word not in PERCEPTUAL_MEANING.replace(",", "").split()] == []


def test_the_weights_of_the_vgg_distance_are_those_of_the_loss() -> None:
    assert METRICS["vgg_relu3_1"].weights == URL


@pytest.mark.parametrize("name", ["psnr_y", "val/psnr_y", "final/psnr_y"])
def test_a_metric_is_found_with_and_without_its_prefix(name: str) -> None:
    assert metric(name) is METRICS["psnr_y"]


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no metric 'psnr'; did you mean 'psnr_"):
        metric("psnr")


def test_perceptual_stands_for_whichever_distance_was_measured() -> None:
    assert metric("val/perceptual") is ANY_DISTANCE
    assert value_of({"val/psnr_y": 1.0, "val/swd": 2.0}, "val/perceptual") == 2.0
    assert value_of({"psnr_y": 1.0}, "perceptual") is None
    assert value_of({"val/psnr_y": 1.0}, "val/psnr_y") == 1.0


def test_less_of_a_distance_is_a_gain() -> None:
    assert METRICS["swd"].gain(new=40.0, old=50.0) == 10.0
    assert METRICS["psnr_y"].gain(new=28.0, old=30.0) == -2.0


def test_values_have_their_unit_and_digits_and_differences_one_digit_more() -> None:
    assert METRICS["psnr_y"].text(28.428) == "28.43 dB"
    assert METRICS["psnr_y"].text(28.428, unit=False) == "28.43"
    assert METRICS["psnr_y"].difference(0.3104) == "+0.310 dB"
    assert METRICS["psnr_y"].difference(-0.000021) == "-0.00002 dB"
    assert METRICS["psnr_y"].difference(0.0) == "+0.000 dB"
    assert METRICS["score"].text(0.5, signed=True) == "+0.500"


@pytest.mark.parametrize(("adversarial", "name"), [(True, "score"), (False, "psnr_y")])
def test_a_recipe_with_a_judge_is_decided_by_the_score(adversarial: bool, name: str) -> None:
    assert catalogue.deciding(adversarial=adversarial).name == name
