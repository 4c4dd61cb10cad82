"""Further metrics beside the perceptual distance: in measurements, differences and validations."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.evaluation.compare import measures, unmeasured
from sisr.evaluation.difference import contributions
from sisr.evaluation.measure import Measurement, Original, evaluate_models
from sisr.metrics import perceptual
from sisr.metrics.catalogue import METRICS
from sisr.metrics.fid import Fid
from sisr.metrics.perceptual import MeanOfImages
from sisr.metrics.protocol import protocol
from sisr.training.options import Options
from sisr.training.session import PlainSession
from sisr.training.validate import Validation

CPU = torch.device("cpu")
DISTS = MeanOfImages("dists", "dists-x", 1, lambda sr, hr: float((sr - hr).abs().mean()))
FID = Fid(lambda patches: [patches.mean(dim=(2, 3), keepdim=True)], CPU)
RULE = protocol("rgb8")


def images(count: int, side: int) -> list[Original]:
    random = np.random.default_rng(0)
    return [Original(str(i), random.integers(0, 256, (side, side, 3), dtype=np.uint8)) for i in range(count)]


def measured(side: int) -> list[Measurement]:
    found: list = [("bicubic", "bicubic"), ("again", "bicubic")]
    return evaluate_models(found, images(3, side), 2, RULE, metrics=["psnr_y"], further=[DISTS, FID])


def test_further_metrics_stand_beside_the_others_and_in_the_protocol() -> None:
    ours, theirs = measured(128)
    assert list(ours.mean) == ["psnr_y", "dists", "fid"]
    assert ours.mean["dists"] == pytest.approx(np.mean([image.values["dists"] for image in ours.images]))
    assert ours.protocol.endswith("|dists-x|fid-inception-128px-patches")
    assert contributions(ours, theirs, METRICS["dists"]) == [0.0] * 3
    assert contributions(ours, theirs, METRICS["fid"]) == [0.0] * 3


def test_what_an_image_is_too_small_for_is_left_out_and_named() -> None:
    ours, _ = measured(120)
    assert list(ours.mean) == ["psnr_y", "dists"]
    by = measures("rgb8", "none", CPU)
    assert unmeasured([ours], by) == []
    lines = unmeasured([ours], type(by)(RULE, None, [DISTS, FID]))
    assert lines == ["fid is left out: some images have less than 128 px a side"]


def test_luma_alone_has_no_further_metrics() -> None:
    assert "left out, for protocol y has luma alone" in measures("y", "none", CPU, "niqe").missing[0]


def test_a_validation_measures_them_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "further", lambda request, least: (request.split(","), []))
    monkeypatch.setattr(perceptual, "build_further", lambda request, device: ([DISTS] if request else [], []))
    module = recipes.load("srez")
    session = PlainSession(RunFolder(Path("unused")), CPU)
    with torch.device("meta"):
        recipe = module.Recipe(module.tiny())
    pixels = [image.hr for image in images(3, 48)]
    validation = Validation(pixels, recipe, session, torch.float32, "none", metrics="dists")
    assert validation.protocol.endswith("|dists-x")
    assert 0 < validation.baseline["dists"] < 1


def test_a_run_s_option_names_each_metric_once() -> None:
    assert Options(metrics="niqe, dists,niqe").metrics == "niqe,dists"
    with pytest.raises(ValueError, match="no further metric 'lpips'"):
        Options(metrics="lpips")
