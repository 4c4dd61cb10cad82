"""What validation says beside its metrics: health numbers, warnings, and which checkpoint is best."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sisr import recipes
from sisr.data import bicubic
from sisr.disk.run_folder import RunFolder
from sisr.errors import ConfigError
from sisr.recipe import Judge, Roles, roles_of
from sisr.training.health import COLLAPSED, GRACE_STEPS, Warnings, best_metric, of_image, of_images, of_step, thumbnails
from sisr.training.local import train_here
from sisr.training.run import Options, Run
from sisr.training.session import NoLog, PlainSession
from sisr.training.validate import Evaluation, Validation
from two_workers import WORLD, on_two_workers


def pictures(count: int, side: int = 48) -> list[np.ndarray]:
    """Smooth uint8 pictures, all different."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.random((count, 3, 6, 6)))
    large = nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
    noisy = (large + 0.1 * torch.from_numpy(random.standard_normal(large.shape))).clamp(0, 1)
    return [np.ascontiguousarray((image * 255).byte().permute(1, 2, 0).numpy()) for image in noisy]


def validation(rank: int = 0, world: int = 1, distance: str = "swd", count: int = 5) -> Validation:
    module = recipes.load("srez")
    session = PlainSession(RunFolder(Path("unused")), torch.device("cpu"), rank, world)
    with torch.device("meta"):
        recipe = module.Recipe(module.tiny())
    return Validation(pictures(count), recipe, session, torch.float32, distance)


class Bicubic(nn.Module):
    """Bicubic, changed by a function of its output."""

    def __init__(self, change: Any = lambda image: image) -> None:
        super().__init__()
        self._change = change

    def forward(self, lr: Tensor) -> Tensor:
        return self._change(bicubic.upscale(lr, 4))


def evaluated(change: Any = lambda image: image, **options: Any) -> Evaluation:
    return validation(**options)(Bicubic(change))


def test_bicubic_measured_as_a_generator_is_the_baseline_scores_zero_and_is_healthy() -> None:
    checked = validation()
    found = checked(Bicubic())
    assert found.metrics == {**checked.baseline, "score": 0.0}
    assert list(checked.baseline) == ["psnr_y", "ssim_y", "swd"]
    assert found.health == pytest.approx(
        {
            "variance_ratio": 1.0,
            "colour_shift": 0.0,
            "downscale_consistency": found.health["downscale_consistency"],
            "variance_over_images": 1.0,
        }
    )
    assert checked.protocol.endswith("|mean-of-images|swd-laplacian-7x7-x1000")


def test_without_a_distance_there_is_no_score() -> None:
    assert list(evaluated(distance="none").metrics) == ["psnr_y", "ssim_y"]


def test_a_constant_output_shows_in_every_health_number() -> None:
    found = evaluated(lambda image: torch.full_like(image, 0.5)).health
    assert found["variance_ratio"] < 1e-3
    assert found["variance_over_images"] < 1e-3
    assert found["colour_shift"] > 1
    assert found["downscale_consistency"] > 0.05


def test_one_picture_for_every_input_is_seen_although_it_has_as_much_variance() -> None:
    other = torch.from_numpy(pictures(1)[0]).permute(2, 0, 1)[None] / 255
    found = evaluated(lambda image: other).health
    assert found["variance_ratio"] > 0.5
    assert found["variance_over_images"] < COLLAPSED


def test_variance_over_images_by_hand() -> None:
    pairs = [(np.full((3, 8, 8), a), np.full((3, 8, 8), b)) for a, b in [(0.4, 0.2), (0.6, 0.8)]]
    assert of_images(pairs)["variance_over_images"] == pytest.approx(0.01 / 0.09)
    assert of_images(pairs[:1]) == {}, "one image has no variance over images"


def test_health_of_an_image_by_hand() -> None:
    hr = torch.zeros(1, 3, 4, 4)
    hr[..., :2] = 1.0
    found = of_image(0.5 * hr + 0.1, hr, hr, 2)
    assert found["variance_ratio"] == pytest.approx(0.25)
    assert found["downscale_consistency"] == pytest.approx((0.4 + 0.1) / 2)
    small = thumbnails(torch.rand(1, 3, 21, 30), hr)
    assert small[0].shape == small[1].shape == (3, 8, 8)


@pytest.mark.parametrize(("judge", "kind"), [("discriminator", "logits"), ("critic", "scores"), ("teacher", "marks")])
def test_the_judge_is_called_judge_whatever_it_is(judge: str, kind: str) -> None:
    scalars = {f"{judge}/real_{kind}": 1.5, f"{judge}/fake_{kind}": -2.0, f"{judge}/total": 9.0, "generator/pixel": 0.1}
    norms = {"generator_optimizer": torch.tensor(3.0), f"{judge}_optimizer": torch.tensor(4.0)}
    roles = Roles(judges=(Judge(judge, kind),))
    assert of_step(scalars, norms, roles, {f"{name}_optimizer": name for name in ("generator", judge)}) == {
        "judge_real": 1.5,
        "judge_fake": -2.0,
        "gradient_norm_generator": 3.0,
        "gradient_norm_judge": 4.0,
    }


def test_a_recipe_without_a_judge_has_its_generators_norm_only() -> None:
    norms = {"adam": torch.tensor(3.0)}
    assert of_step({"x": 0.1}, norms, Roles(), {"adam": "generator"}) == {"gradient_norm_generator": 3.0}


def two_workers_validate(rank: int) -> dict[str, Any]:
    checked = validation(rank, WORLD)
    found = checked(Bicubic(lambda image: image * 0.9))
    return {"metrics": found.metrics, "health": found.health, "baseline": checked.baseline}


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    first, second = on_two_workers(two_workers_validate, tmp_path)
    assert first == second
    torch.set_num_threads(1)
    alone = validation()
    found = alone(Bicubic(lambda image: image * 0.9))
    assert first["metrics"] == pytest.approx(found.metrics, rel=1e-9)
    assert first["health"] == pytest.approx(found.health, rel=1e-6)
    assert first["baseline"] == pytest.approx(alone.baseline, rel=1e-9)


def test_a_distance_that_can_not_be_had_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError, match="'lpisp' is none of these"):
        validation(distance="lpisp")


class Tags(NoLog):
    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def tags(self, values: dict[str, Any]) -> None:
        self.found |= values


BASELINE = {"psnr_y": 28.0}
GOOD = {"val/psnr_y": 28.5}
LOW = {"val/psnr_y": 24.9}


def test_collapse_is_said_once_in_a_run_also_after_a_resume(tmp_path: Path) -> None:
    folder, log = RunFolder(tmp_path), Tags()
    for _ in range(2):
        watched = Warnings(folder, log, 5000)
        for done in (1000, 1500):
            watched.look(done, GOOD, {"variance_over_images": 0.01}, BASELINE)
    (said,) = folder.warnings()
    assert said.startswith("output collapsed at step 1000: outputs of different images differ 0.01 times as much")
    assert list(log.found) == ["sisr.warning.output_collapsed"]


def test_a_healthy_run_is_not_warned(tmp_path: Path) -> None:
    watched = Warnings(RunFolder(tmp_path), Tags(), 5000)
    for done in range(0, 5000, 500):
        watched.look(done, GOOD, {"variance_over_images": 0.9}, BASELINE)
        watched.look(done, {"val/psnr_y": 25.1}, {}, BASELINE)
    assert RunFolder(tmp_path).warnings() == []


def test_a_run_below_the_floor_three_times_in_a_row_is_said(tmp_path: Path) -> None:
    folder, log = RunFolder(tmp_path), Tags()
    watched = Warnings(folder, log, 5000)
    for done, values in enumerate([LOW, LOW, GOOD, LOW, LOW], start=GRACE_STEPS):
        watched.look(done, values, {}, BASELINE)
    assert folder.warnings() == []
    watched.look(GRACE_STEPS + 5, LOW, {}, BASELINE)
    (said,) = folder.warnings()
    assert said.startswith("quality floor at step 1005: 24.90 dB PSNR-Y, bicubic 28.00, and so in 3 evaluations")
    assert list(log.found) == ["sisr.warning.quality_floor"]


@pytest.mark.parametrize(("steps", "grace"), [(400, 1000), (5000, 1000), (100_000, 10_000)])
def test_nothing_is_said_at_the_start(tmp_path: Path, steps: int, grace: int) -> None:
    folder = RunFolder(tmp_path)
    watched = Warnings(folder, Tags(), steps)
    for done in range(grace - 10, grace):
        watched.look(done, LOW, {"variance_over_images": 0.0}, BASELINE)
    assert folder.warnings() == []
    watched.look(grace, LOW, {"variance_over_images": 0.0}, BASELINE)
    assert len(folder.warnings()) == 1


@pytest.mark.parametrize("name", recipes.names())
def test_the_score_decides_which_checkpoint_is_best_where_there_is_a_judge(name: str) -> None:
    module = recipes.load(name)
    with torch.device("meta"):
        roles = roles_of(module.Recipe(module.tiny()))
    adversarial = name not in ("pixelshuffle", "srresnet")
    assert best_metric(roles, {"val/psnr_y": 1.0, "val/score": 1.0}) == ("val/score" if adversarial else "val/psnr_y")
    assert best_metric(roles, {"val/psnr_y": 1.0}) == "val/psnr_y", "perceptual=none"


class Records(NoLog):
    def __init__(self) -> None:
        self.steps: dict[int, dict[str, float]] = {}
        self.facts: dict[str, Any] = {}

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.steps.setdefault(step, {}).update(values)

    def tags(self, values: dict[str, Any]) -> None:
        self.facts |= values


def test_a_run_with_a_judge_logs_distance_score_and_health_and_keeps_its_best_by_score(tmp_path: Path) -> None:
    config = recipes.load("srez").tiny().model_dump(mode="json")
    options = Options(precision="fp32", evaluate_every=2, threads=1, validation_side=48, perceptual="swd")
    folder, log = RunFolder(tmp_path / "run"), Records()
    status = train_here(Run(name="t", recipe="srez", config=config, options=options, data="demo"), folder, log)

    assert {"psnr_y", "swd"} < log.facts["sisr.bicubic"].keys()
    assert "health/judge_real" not in log.steps[0], "no step was taken yet"
    judge = {"judge_real", "judge_fake", "gradient_norm_generator", "gradient_norm_judge"}
    image = {"variance_ratio", "colour_shift", "downscale_consistency", "variance_over_images"}
    for step in (2, 4):
        assert {name for name in log.steps[step] if name.startswith("health/")} == {
            f"health/{n}" for n in judge | image
        }
        assert {"val/psnr_y", "val/ssim_y", "val/swd", "val/score"} < log.steps[step].keys()
    assert log.steps[4]["health/judge_real"] == log.steps[4]["discriminator/real_logits"]
    assert log.facts["sisr.validation_protocol"] == status["protocol"]
    assert status["protocol"].endswith("|swd-laplacian-7x7-x1000")

    best = json.loads(folder.best.read_text())
    assert best["by"] == "val/score"
    assert best["val/score"] == max(log.steps[step]["val/score"] for step in (2, 4))
    assert set(status["validation"]) == {"val/psnr_y", "val/ssim_y", "val/swd", "val/score"}
