"""How two models differ in a metric of each image, in one of all images together, and in the score of both."""

import math

import numpy as np
import pytest
import torch

from sisr.evaluation.difference import GROUPS, contributions, difference
from sisr.evaluation.measure import ImageResult, Measurement, score_against, with_scores
from sisr.metrics.catalogue import METRICS, PSNR_Y, SCORE
from sisr.metrics.perceptual import Distance, MeanOfImages
from sisr.metrics.swd import Swd

ROOT = MeanOfImages("lpips", "lpips", 1, lambda sr, hr: 0.0)


def measured(psnr, evidence, distance: Distance = ROOT) -> Measurement:
    """Return what a model reached: PSNR and the distance's evidence of each image."""
    values = [{"psnr_y": float(p)} for p in psnr]
    if isinstance(evidence[0], float):
        values = [v | {distance.name: d} for v, d in zip(values, evidence, strict=True)]
    images = [ImageResult(str(i), v) for i, v in enumerate(values)]
    return Measurement("x", "rgb8", images, {distance.name: distance.value(evidence)}, distance, list(evidence))


def two_models(count: int, seed: int = 0) -> tuple[Measurement, Measurement]:
    draws = np.random.default_rng(seed)
    psnr, distance = draws.normal(28, 3, count), draws.uniform(0.2, 0.6, count)
    ours = measured(psnr - 0.5, [float(d) for d in distance * draws.uniform(0.5, 0.7, count)])
    return ours, measured(psnr, [float(d) for d in distance])


def test_what_images_contribute_to_a_metric_of_each_is_its_own_difference():
    ours, theirs = two_models(8)
    assert contributions(ours, theirs, PSNR_Y) == pytest.approx([-0.5] * 8)


def test_the_difference_of_scores_is_their_difference_against_bicubic():
    ours, theirs = two_models(8)
    bicubic = two_models(8, seed=1)[1]
    scored = [each.mean["score"] for each in with_scores([ours, theirs], bicubic)]
    found = difference(ours, theirs, SCORE)
    assert found is not None
    assert found.interval.mean == pytest.approx(scored[0] - scored[1])
    assert found.interval.mean == pytest.approx(score_against(ours, theirs))


@pytest.mark.parametrize("count", [7, 60])
def test_contributions_to_the_score_average_to_it_and_vary_as_it_does_from_sample_to_sample(count):
    """Compared with 400 samples of other images: the standard error of the difference, by leaving images out."""
    samples = [contributions(*two_models(count, seed), SCORE) for seed in range(400)]
    means = [np.mean(sample) for sample in samples]
    errors = [np.std(sample, ddof=1) / math.sqrt(len(sample)) for sample in samples]
    assert len(samples[0]) == min(count, GROUPS)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.15)


def test_a_gan_that_loses_psnr_and_wins_in_perception_is_better_in_score_and_worse_in_psnr():
    ours, theirs = two_models(10)
    words = {metric.name: difference(ours, theirs, metric) for metric in (PSNR_Y, SCORE, METRICS["lpips"])}
    assert {name: found and found.word for name, found in words.items()} == {
        "psnr_y": "worse",
        "score": "better",
        "lpips": "better",
    }


def test_a_distance_of_all_images_together_has_an_interval_by_leaving_images_out():
    draws = np.random.default_rng(0)
    hr = [torch.from_numpy(draws.random((1, 3, 48, 48))) for _ in range(7)]
    blurred = [torch.nn.functional.avg_pool2d(image, 3, 1, 1) for image in hr]
    ours = measured([30] * 7, [Swd().evidence((a + 2 * b) / 3, a) for a, b in zip(hr, blurred, strict=True)], Swd())
    theirs = measured([30] * 7, [Swd().evidence(b, a) for a, b in zip(hr, blurred, strict=True)], Swd())
    found = difference(ours, theirs, METRICS["swd"])
    assert found is not None
    assert found.interval.mean == pytest.approx(ours.together["swd"] - theirs.together["swd"])
    assert found.interval.low < found.interval.mean < found.interval.high < 0
    assert found.word == "better", "less of it"


def test_of_one_image_nothing_is_said():
    ours, theirs = two_models(1)
    assert difference(ours, theirs, PSNR_Y) is None
    assert difference(ours, theirs, SCORE) is None


def test_an_exact_model_counts_as_100_db_and_has_no_finite_score():
    ours, theirs = measured([math.inf] * 6, [0.0] * 6), measured([30.0] * 6, [0.3] * 6)
    found = difference(ours, theirs, PSNR_Y)
    assert found is not None
    assert found.interval.mean == 70
    assert difference(ours, theirs, SCORE) is None
