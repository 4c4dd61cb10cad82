"""What is known of recipes before torch is imported: their settings, and what the cache keeps of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sisr import recipes
from sisr.config.settings import build
from sisr.driver import recipe_facts
from sisr.errors import ConfigError
from sisr.recipes.config_alone import config_alone
from sisr.terminal import cli

WRONG: list[dict[str, Any]] = [
    {"learnin_rate": 1},
    {"steps": 0},
    {"steps": "many"},
    {"batch_size": 1.5},
    {"scale": 3},
    {"hr_crop": True},
    {"box": [0, 0, 1, 1]},
    {"pretrain_steps": 10**9},
    {"blur_sigma_max": 1e-9},
    {"learning_rate": float("nan"), "nothing": 1},
]


def text_of(name: str) -> str:
    return Path(str(recipes.load(name).__file__)).read_text()  # type: ignore[attr-defined]


def answer(config: Any, values: dict[str, Any]) -> str | dict[str, Any]:
    try:
        return dict(build(config, values).model_dump())
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize("name", recipes.names())
def test_a_config_alone_answers_as_the_recipe_s_own(name: str) -> None:
    alone, own = config_alone(text_of(name)), recipes.load(name).Config
    assert alone is not None
    assert alone.model_json_schema() == own.model_json_schema()
    for values in ({}, *WRONG):
        assert answer(alone, values) == answer(own, values)


NEEDS_MORE = {
    "a function of its file": "def least(): return 1\nclass Config(Settings):\n    steps: int = Field(least())\n",
    "a class of another module": "from elsewhere import Mode\nclass Config(Settings):\n    mode: Mode = Mode.FAST\n",
    "another base class": "class Config(Base):\n    steps: int = 1\n",
    "nothing: there is none": "x = 1\n",
    "a syntax that Python knows": "class Config(Settings:\n",
}


@pytest.mark.parametrize("what", NEEDS_MORE)
def test_a_config_that_needs_more_than_itself_is_left_to_its_recipe(what: str) -> None:
    text = f"from sisr.recipe import Field, Settings\n{NEEDS_MORE[what]}"
    assert config_alone(text) is None
    recipes.check_settings(recipes.Source("mine", text, "mine.py"), {"steps": "wrong"})


def test_a_validator_that_needs_the_rest_of_its_file_is_left_to_its_recipe() -> None:
    text = (
        "from pydantic import field_validator\nfrom sisr.recipe import Field, Settings\nLEAST = 3\n"
        "class Config(Settings):\n    steps: int = Field(5)\n"
        "    @field_validator('steps')\n    @classmethod\n"
        "    def _enough(cls, steps: int) -> int:\n        assert steps > LEAST\n        return steps\n"
    )
    recipes.check_settings(recipes.Source("mine", text, "mine.py"), {"steps": 1})


def kept(cache: Path, name: str) -> Path:
    (path,) = (cache / "recipes").glob(f"{name}-*.json")
    return path


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "another number", "a list"])
def test_a_damaged_cache_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setenv("SISR_CACHE", str(tmp_path))
    first = recipe_facts.facts("pixelshuffle")
    assert first == recipe_facts.describe(recipes.find("pixelshuffle"))
    path = kept(tmp_path, "pixelshuffle")
    text = path.read_text()
    assert "134199" in text
    changed = {"empty": "", "cut": text[:-9], "another number": text.replace("134199", "134198"), "a list": "[1]"}
    path.unlink() if damage == "missing" else path.write_text(changed[damage])
    assert recipe_facts.facts("pixelshuffle") == first
    assert path.read_text() == text


def test_without_a_cache_to_write_recipes_are_described_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISR_CACHE", "/dev/null/nowhere")
    assert recipe_facts.facts("pixelshuffle")["name"] == "pixelshuffle"


def test_facts_of_other_versions_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISR_CACHE", str(tmp_path))
    with monkeypatch.context() as other:
        other.setattr(recipe_facts.code_revision, "digest", lambda: "0" * 12)
        recipe_facts.facts("pixelshuffle")
        assert kept(tmp_path, "pixelshuffle").name == f"pixelshuffle-{'0' * 12}.json"
    recipe_facts.facts("pixelshuffle")
    assert kept(tmp_path, "pixelshuffle").name != f"pixelshuffle-{'0' * 12}.json"


@pytest.mark.slow
def test_recipes_are_listed_without_torch_from_the_second_time_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["recipes", "--json"])
    first = capsys.readouterr().out
    program = (
        "import sys; from sisr.terminal.cli import main\n"
        "try: main(['recipes', '--json'])\n"
        "except SystemExit: print('torch' in sys.modules, file=sys.stderr)"
    )
    second = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert json.loads(second.stdout) == json.loads(first)
    assert second.stderr == "False\n"
