"""What the gate in front of the registry lets through, and how it says no."""

import math
from dataclasses import replace

import pytest

from sisr.errors import ConfigError
from sisr.evaluation.gate import Check, judge, metric_of, reported, unseen
from sisr.evaluation.measure import ImageResult, Measurement, with_scores
from sisr.evaluation.ranking import forgiven
from sisr.metrics.catalogue import METRICS, PSNR_Y
from sisr.metrics.perceptual import MeanOfImages
from sisr.metrics.protocol import protocol
from sisr.metrics.swd import Swd

RGB = protocol("rgb8")


def measured(model: str, *values: float, metric: str = "psnr_y") -> Measurement:
    return Measurement(model, "rgb8|...", [ImageResult(f"{i}.png", {metric: value}) for i, value in enumerate(values)])


def against(candidate: Measurement, rival: Measurement, by: str = "psnr_y") -> Check:
    return judge(candidate, [rival], METRICS[by])[-1]


def test_a_gain_on_every_image_passes_and_says_how_much():
    check = against(
        measured("new", 30.5, 25.25, 40.125, 31, 26, 41), measured("bicubic", 30, 25, 40, 30.5, 25.75, 40.875)
    )
    assert (check.name, check.passed) == ("bicubic", True)
    assert check.text == "better: psnr_y +0.292 dB [+0.112, +0.471]"


def test_a_gain_that_noise_explains_is_refused():
    check = against(measured("new", 31, 24.5, 40, 31, 24.5, 40), measured("champion", 30, 25, 40.2, 30, 25, 40.2))
    assert not check.passed
    assert check.text.startswith("not better beyond noise: psnr_y +0.100 dB [-")


def test_a_worse_model_is_called_worse():
    check = against(measured("new", *[29, 24] * 3), measured("champion", *[30, 25] * 3))
    assert check.text == "worse: psnr_y -1.000 dB [-1.000, -1.000]"


def test_the_same_model_is_not_better():
    same = measured("champion", *[30, 25, 40] * 2)
    assert not against(same, same).passed


def test_every_rival_is_a_check_of_its_own():
    checks = judge(
        measured("new", *[30, 25] * 3),
        [measured("bicubic", *[29, 24] * 3), measured("champion", *[31, 26] * 3)],
        PSNR_Y,
    )
    assert [(c.name, c.passed) for c in checks] == [("finite", True), ("bicubic", True), ("champion", False)]


def test_less_of_a_distance_is_better():
    new, old = (measured("x", *[value] * 6, metric="lpips") for value in (0.2, 0.3))
    assert against(new, old, "lpips").text == "better: lpips -0.10000 [-0.10000, -0.10000]"
    assert not against(old, new, "lpips").passed


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_and_named(value):
    (check,) = judge(measured("new", 30, value), [measured("bicubic", 29, 24)], PSNR_Y)
    assert not check.passed
    assert check.text == f"1 numbers are not finite: psnr_y of 1.png is {value}"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_fewer_than_six_images_are_not_enough_however_they_agree(count):
    checks = judge(measured("new", *[30] * count), [measured("bicubic", *[29] * count)], PSNR_Y)
    failed = {check.name: check.text for check in checks if not check.passed}
    assert failed["number of images"].startswith(f"{count} are too few to call a difference shown")
    assert "bicubic" in failed


def test_images_that_were_trained_on_are_refused_and_named():
    check = unseen(["a.png", "b.png", "c.png", "d.png"], 9)
    assert not check.passed
    assert check.text == "it was trained on 4 of these 9 images: a.png, b.png, c.png, ..."
    assert unseen([], 9).passed
    assert "not known" in unseen(None, 9).text


@pytest.mark.parametrize(
    ("adversarial", "distance", "name"), [(True, Swd(), "score"), (True, None, "psnr_y"), (False, Swd(), "psnr_y")]
)
def test_a_recipe_with_a_judge_is_decided_by_the_score_where_it_is_measured(adversarial, distance, name):
    assert metric_of(None, adversarial=adversarial, rule=RGB, distance=distance).name == name


@pytest.mark.parametrize(("adversarial", "passes"), [(True, True), (False, False)])
def test_a_gan_that_loses_psnr_and_wins_in_perception_passes_by_its_own_metric(adversarial, passes):
    lpips = MeanOfImages("lpips", "lpips-alex-v0.1", 1, lambda sr, hr: 0.0)

    def reached(model: str, psnr: list[float], distances: list[float]) -> Measurement:
        images = [
            ImageResult(str(i), {"psnr_y": p, "lpips": d}) for i, (p, d) in enumerate(zip(psnr, distances, strict=True))
        ]
        return Measurement(model, "rgb8", images, {"lpips": lpips.value(distances)}, lpips, distances)

    psnr, distances = [24.0, 27.0, 25.5, 30.0, 28.0, 22.5], [0.4, 0.3, 0.35, 0.2, 0.3, 0.5]
    bicubic = reached("bicubic", psnr, distances)
    closer = (0.5, 0.4, 0.6, 0.5, 0.45, 0.5)
    gan = reached("gan", [p - 1.2 for p in psnr], [d * f for d, f in zip(distances, closer, strict=True)])
    by = metric_of(None, adversarial=adversarial, rule=RGB, distance=lpips)
    candidate, rival = with_scores([gan, bicubic], bicubic)
    checks = judge(candidate, [rival], by)
    assert all(check.passed for check in checks) is passes
    assert checks[-1].text.startswith("better: score +0.4" if passes else "worse: psnr_y -1.200 dB")


def test_the_distance_that_was_measured_can_be_asked_for_as_perceptual():
    assert metric_of("perceptual", adversarial=False, rule=RGB, distance=Swd()).name == "swd"


def test_a_further_metric_decides_where_it_is_measured_and_else_it_is_said_what_it_lacks():
    dists = MeanOfImages("dists", "dists-x", 1, lambda sr, hr: 0.0)
    assert metric_of("dists", adversarial=True, rule=RGB, distance=None, further=[dists]).name == "dists"
    with pytest.raises(
        ConfigError, match=r"dists is not measured .* distance; dists is left out: it needs the package"
    ):
        metric_of(
            "dists", adversarial=True, rule=RGB, distance=None, missing=["dists is left out: it needs the package x"]
        )


def test_a_metric_that_is_not_measured_is_refused_with_the_choices():
    with pytest.raises(ConfigError, match=r"psnr_rgb is not measured under protocol y .* one of psnr_y, ssim_y,"):
        metric_of("psnr_rgb", adversarial=False, rule=protocol("y"), distance=None)


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({"val/psnr_y": 30.0}, "no values of its end"),
        ({"final/psnr_y": 30.0, "final/ssim_y_finite": 0.0}, "not finite: final/ssim_y"),
        ({"final/psnr_y": math.nan}, "not finite: final/psnr_y"),
    ],
)
def test_a_run_that_reports_nothing_or_nonsense_at_its_end_is_refused(metrics, text):
    check = reported(metrics)
    assert not check.passed
    assert text in check.text


def test_a_run_that_reports_finite_numbers_passes():
    assert reported({"final/psnr_y": 30.0, "val/x_finite": 0.0}).passed


@pytest.mark.parametrize(("psnr", "score", "doubted"), [(24.0, 0.04, True), (27.5, 0.3, False), (24.0, -0.1, False)])
def test_a_good_score_by_swd_alone_is_doubted_where_a_decibel_is_lost(psnr: float, score: float, doubted: bool):
    def by_swd(model: str, psnr: float, score: float) -> Measurement:
        found = measured(model, *[psnr] * 6)
        return replace(found, together={"swd": 90.0, "score": score}, distance=Swd())

    said = forgiven([by_swd("grid", psnr, score), by_swd("bicubic", 28.0, 0.0)])
    assert bool(said) == doubted
    assert forgiven([by_swd("grid", psnr, score)]) == [], "without bicubic there is no score"
    if said:
        assert said[0].startswith("grid has -4.000 dB against bicubic, and its score of 0.040 comes from SWD")
