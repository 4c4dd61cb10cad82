"""What the gate in front of the registry lets through, and how it says no."""

import math

import pytest

from sisr.errors import ConfigError, DataError
from sisr.evaluation.gate import Test as Finding
from sisr.evaluation.gate import check_metric, judge, reported
from sisr.evaluation.measure import ImageResult, Report
from sisr.metrics.protocol import protocol


def report(model: str, *values: float, metric: str = "psnr_y") -> Report:
    return Report(model, "rgb8|...", [ImageResult(f"{i}.png", {metric: value}) for i, value in enumerate(values)])


def against(candidate: Report, rival: Report, by: str = "psnr_y") -> Finding:
    return judge(candidate, [rival], by)[1]


def test_a_gain_on_every_image_passes_and_says_how_much():
    test = against(report("new", 30.5, 25.25, 40.125), report("bicubic", 30, 25, 40))
    assert (test.name, test.passed) == ("bicubic", True)
    assert test.finding == "better: psnr_y +0.292 dB [+0.125, +0.500]"


def test_a_gain_that_noise_explains_is_refused():
    test = against(report("new", 31, 24.5, 40), report("champion", 30, 25, 40.2))
    assert not test.passed
    assert test.finding.startswith("not better beyond noise: psnr_y +0.100 dB [-")


def test_a_worse_model_is_called_worse():
    test = against(report("new", 29, 24), report("champion", 30, 25))
    assert test.finding == "worse: psnr_y -1.000 dB [-1.000, -1.000]"


def test_the_same_model_is_not_better():
    same = report("champion", 30, 25, 40)
    assert not against(same, same).passed


def test_every_rival_is_a_test_of_its_own():
    tests = judge(report("new", 30, 25), [report("bicubic", 29, 24), report("champion", 31, 26)], "psnr_y")
    assert [(t.name, t.passed) for t in tests] == [("finite", True), ("bicubic", True), ("champion", False)]


def test_the_metric_that_decides_is_the_one_asked_for():
    test = against(report("new", 0.9, 0.8, metric="ssim_y"), report("old", 0.8, 0.75, metric="ssim_y"), "ssim_y")
    assert test.finding == "better: ssim_y +0.07500 [+0.05000, +0.10000]"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_and_named(value):
    (test,) = judge(report("new", 30, value), [report("bicubic", 29, 24)], "psnr_y")
    assert not test.passed
    assert test.finding == f"1 numbers are not finite: psnr_y of 1.png is {value}"


def test_one_image_is_not_enough():
    with pytest.raises(DataError, match="at least 2 images"):
        judge(report("new", 30), [report("bicubic", 29)], "psnr_y")


def test_a_metric_that_the_protocol_does_not_measure_is_refused_with_the_choices():
    with pytest.raises(ConfigError, match=r"psnr_rgb is not measured under protocol y: choose one of psnr_y, ssim_y"):
        check_metric("psnr_rgb", protocol("y"))


@pytest.mark.parametrize(
    ("metrics", "finding"),
    [
        ({"val/psnr_y": 30.0}, "no final/... metric"),
        ({"final/psnr_y": 30.0, "final/ssim_y_finite": 0.0}, "not finite: final/ssim_y"),
        ({"final/psnr_y": math.nan}, "not finite: final/psnr_y"),
    ],
)
def test_a_run_that_reports_nothing_or_nonsense_at_its_end_is_refused(metrics, finding):
    test = reported(metrics)
    assert not test.passed
    assert finding in test.finding


def test_a_run_that_reports_finite_numbers_passes():
    assert reported({"final/psnr_y": 30.0, "val/x_finite": 0.0}).passed
