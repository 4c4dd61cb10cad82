"""Sweeps that begin from presets or another run, and what their dry run says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sisr.config.settings import Located, read_yaml
from sisr.driver.run import again
from sisr.driver.sweep.files import write_best
from sisr.driver.sweep.full_run import full_size
from sisr.driver.sweep.planning import plan_of
from sisr.errors import ConfigError
from sisr.pipelines import tune
from sisr.sweep.state import Sweep, Trial

RECORDED = Path(__file__).parents[1] / "training" / "recorded_run" / "half"


def test_trials_have_a_presets_settings_but_for_those_searched_and_the_full_run_those_that_are_cheap_too(
    tmp_path: Path,
) -> None:
    base = Located({"turn": True, "hr_crop": 128, "steps": 12_000, "learning_rate": 1e-3, "beta1": 0.9}, {})
    plan, space = plan_of("pixelshuffle", base=base, space=("beta1=",), changes={"steps": 900})
    assert (plan.fixed["turn"], plan.fixed["hr_crop"], plan.fixed["steps"], plan.fixed["beta1"]) == (True, 96, 900, 0.9)
    assert "learning_rate" not in plan.fixed
    first = space.baseline()
    assert first is not None
    assert first["learning_rate"] == 1e-3, "the first trial has the preset's value"
    assert full_size(plan) == "unlike the trials: steps 12000 instead of 900, hr_crop 128 instead of 96"
    trial = Trial(0, first, first, curve=[(900, {"val/psnr_y": 20.0})])
    best = read_yaml(write_best(tmp_path, Sweep(plan, [trial]), trial, "pixelshuffle"))
    assert (best["hr_crop"], best["steps"], best["turn"], best["learning_rate"]) == (128, 12_000, True, 1e-3)
    fixed, _ = plan_of("pixelshuffle", base=base, settings=("hr_crop=48",))
    assert (fixed.fixed["hr_crop"], fixed.full) == (48, {"steps": 12_000})


@pytest.mark.slow
def test_a_sweep_from_a_run_has_its_images_options_and_settings_and_its_dry_run_says_what_a_trial_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(RECORDED, "runs/half")
    before = again.read(RECORDED / "run.json")
    asked: dict[str, Any] = {"data": str(RECORDED.parent / "photos"), "set_": ["hr_crop=16"], "gpus_per_trial": 0}
    tune.main(from_="half", dry_run=True, option=["perceptual=none"], trials=3, address="local", **asked)
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    sweep = found["sweep"]
    assert sweep["fixed"]["num_features"] == before.config["num_features"]
    assert sweep["fixed"]["hr_crop"] == 16
    assert sweep["full"] == {"steps": before.config["steps"]}
    assert sweep["options"]["precision"] == before.options["precision"]
    assert sweep["options"]["perceptual"] == "none"
    assert sweep["options"]["evaluate_every"] != before.options["evaluate_every"]
    assert found["takes"]["hours"] > 0
    assert "one trial that goes all the way" in shown.err
    assert not list(Path("runs").glob("*sweep*"))


def test_a_trial_that_asks_for_more_cpus_than_there_are_is_refused_by_its_option() -> None:
    with pytest.raises(ConfigError, match=r"--workers-per-trial 4096: they want 4096 CPUs"):
        tune.main("pixelshuffle", dry_run=True, workers_per_trial=4096, address="local")
    with pytest.raises(ConfigError, match="name a recipe"):
        tune.main()
