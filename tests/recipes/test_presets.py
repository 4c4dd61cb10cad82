"""Presets: settings that go together, declared by a recipe, ours or from outside."""

from pathlib import Path

import pytest

from sisr import recipes
from sisr.config.settings import build
from sisr.errors import ConfigError
from sisr.recipes.config_alone import config_alone
from sisr.training.options import Options


@pytest.mark.parametrize("recipe", recipes.names())
def test_every_preset_of_every_recipe_is_accepted_and_changes_no_scale(recipe: str) -> None:
    source = recipes.find(recipe)
    module = recipes.load(recipe)
    assert {"cpu", "8gb", "24gb"} <= set(module.Config.presets)
    for name in module.Config.presets:
        settings, options = recipes.preset(source, [name])
        assert build(module.Config, settings).scale == module.Config().scale
        assert build(Options, options).accumulate >= 1


@pytest.mark.parametrize("recipe", recipes.names())
def test_presets_are_known_without_the_rest_of_the_recipes_file(recipe: str) -> None:
    light = config_alone((Path(recipes.__file__).parent / f"{recipe}.py").read_text())
    assert light is not None
    assert light.presets == recipes.load(recipe).Config.presets


def test_a_later_preset_wins_and_an_unknown_one_is_answered_with_those_that_there_are() -> None:
    source = recipes.find("pixelshuffle")
    settings, _ = recipes.preset(source, ["photos", "cpu"])
    assert (settings["hr_crop"], settings["learning_rate"]) == (96, 1e-3)
    with pytest.raises(ConfigError, match="recipe pixelshuffle has no preset '8g'; it has photos, cpu, 8gb, 24gb"):
        recipes.preset(source, ["8g"])


def test_a_recipe_from_outside_declares_presets_too(tmp_path: Path, repository: Path) -> None:
    text = (repository / "platform/sisr/recipes/pixelshuffle.py").read_text()
    (tmp_path / "mine.py").write_text(text.replace('"cpu": Preset(', '"laptop": Preset('))
    assert "laptop" in recipes.presets(recipes.find(str(tmp_path / "mine.py")))


def test_a_recipe_without_presets_has_none(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from sisr.recipe import Settings\n\nclass Config(Settings):\n    steps: int = 1\n"
    )
    with pytest.raises(ConfigError, match="recipe mine has no preset 'cpu'; it has none"):
        recipes.preset(recipes.find(str(tmp_path / "mine.py")), ["cpu"])
