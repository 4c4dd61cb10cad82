"""A run's record as the file from which another run begins."""

import json
import shutil
from pathlib import Path

import pytest

from sisr.disk.run_folder import RunFolder
from sisr.driver.run import again
from sisr.errors import ConfigError
from sisr.models import trust
from sisr.pipelines import train
from sisr.training.run import read

RECORDED = Path(__file__).parents[1] / "training" / "recorded_run" / "half"


def planned(capsys: pytest.CaptureFixture[str], **asked: object) -> dict[str, object]:
    """Return the run that a command would train."""
    train.main(**{"local": True, "dry_run": True, "json": True, **asked})
    return dict(json.loads(capsys.readouterr().out)["run"])


def test_a_run_from_an_earlier_versions_run_has_its_settings_but_for_those_that_are_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(RECORDED, "runs/half")
    before = read(RunFolder(Path("runs/half")))
    assert before is not None
    photos = str(RECORDED.parent / "photos")
    run = planned(capsys, from_="half", set_=["learning_rate=0.004"], seed=7, data=photos, option=["perceptual=none"])
    assert run["config"] == {**before.config, "degradation": None, "learning_rate": 0.004}
    assert run["options"] == {**before.options.model_dump(), "seed": 7, "perceptual": "none"}
    assert run["name"] != "half"


def test_the_command_line_wins_over_config_and_config_over_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text("hr_crop: 64\nlearning_rate: 5.0e-4\n")
    asked = {"recipe": "pixelshuffle", "preset": ["cpu", "8gb"], "config": Path("s.yaml"), "set_": ["hr_crop=48"]}
    run = planned(capsys, **asked, option=["perceptual=none"])
    config, options = run["config"], run["options"]
    assert isinstance(config, dict)
    assert isinstance(options, dict)
    assert (config["hr_crop"], config["learning_rate"], config["turn"], config["beta1"]) == (48, 5e-4, True, 0.9)
    assert options["accumulate"] == 2
    assert planned(capsys, **asked, option=["accumulate=1", "perceptual=none"])["options"]["accumulate"] == 1  # type: ignore[index]


def test_a_record_of_another_recipe_and_what_is_no_record_are_refused() -> None:
    with pytest.raises(ConfigError, match="is of a run of pixelshuffle, not of srresnet"):
        again.settings_of(RECORDED / "run.json", "srresnet")
    Path("x.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"x\.json is no record of a run"):
        again.read(Path("x.json"))
    with pytest.raises(ConfigError, match=r"name a recipe .*, or a run whose settings to take: --from RUN"):
        train.main()


def test_code_that_a_run_brings_is_taken_only_where_its_user_has_named_it(session_cache: Path) -> None:
    recorded = again.Recorded(recipe="mine", config={}, options={}, data="demo", recipe_source="print('hello')\n")
    with pytest.raises(ConfigError, match="brings the code of its recipe mine, which was never named"):
        again.recipe_of(recorded, None)
    trust.remember("mine", recorded.recipe_source, "mine.py")
    assert again.recipe_of(recorded, None).text == recorded.recipe_source
