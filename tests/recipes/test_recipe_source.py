"""Recipes from outside this package: found, explained, and run from their text alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import espcn
import outside_recipe
from outside_recipe import SMALL, write
from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.driver.run.order import Order, prepare
from sisr.driver.run.record import take_up
from sisr.errors import ConfigError
from sisr.inference.tiled import upscale
from sisr.models.files import save_model
from sisr.models.model import load_model
from sisr.recipe import Judge, Recipe, RecipeModule, Roles, Tiling, build_recipe, parts_of, roles_of, stepped_networks
from sisr.recipes import outside
from sisr.terminal import cli
from sisr.training import contract
from sisr.training.local import train_here
from sisr.training.run import Options, Run, explain_recipe_errors
from sisr.training.session import NoLog

VALUES = {"batch_size": 4, "hr_crop": 32, "num_features": 4, "steps": 4}


def sisr(*argv: object) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in argv])
    return int(end.value.code or 0)


def load(path: Path | str) -> Any:
    source = recipes.find(str(path))
    return recipes.load(source.name, source.text, source.where)


def prepared(path: Path | str, **changes: Any) -> tuple[Run, RunFolder, Any]:
    return prepare(Order(recipe=str(path), values=VALUES, options=Options(validation_side=48), **changes))


def test_the_example_is_short_enough_to_be_read_and_is_the_file_whose_types_are_checked() -> None:
    assert len(outside_recipe.text().splitlines()) < 40
    assert Path(espcn.__file__).read_text() == outside_recipe.text()


def as_the_contract_says(recipe: espcn.Recipe, module: RecipeModule = espcn) -> Recipe:
    """Nobody calls this: mypy refuses it where the example does not keep the contract's types."""
    return recipe


@pytest.fixture
def of_the_first_version(tmp_path: Path) -> Path:
    """The example as it was before generators had a `tiling` and recipes had `roles`, as runs and models hold it."""
    shutil.copy(outside_recipe.FIRST_VERSION, tmp_path / "espcn.py")
    return tmp_path / "espcn.py"


def test_a_recipe_of_the_first_version_keeps_the_contract_of_today(of_the_first_version: Path) -> None:
    module = load(of_the_first_version)
    assert [(what, str(error)) for what, error in contract.verdicts(module) if error] == []
    recipe = build_recipe(module, module.tiny())
    assert recipe.generator.tiling == Tiling(scale=4, halo=4)
    assert list(parts_of(recipe)) == ["generator", "generator_optimizer"]
    assert roles_of(recipe) == Roles()


@pytest.mark.parametrize(("name", "kind"), [("discriminator", "logits"), ("critic", "scores")])
def test_the_judge_of_a_recipe_of_the_first_version_is_known_by_its_name(
    name: str, kind: str, of_the_first_version: Path
) -> None:
    recipe = build_recipe(load(of_the_first_version), load(of_the_first_version).tiny())
    parts = parts_of(recipe) | {name: torch.nn.Linear(1, 1)}
    recipe.parts = lambda: parts  # type: ignore[attr-defined]
    assert roles_of(recipe).judges == (Judge(name, kind),)


def test_a_model_of_a_recipe_of_the_first_version_is_loaded(of_the_first_version: Path, tmp_path: Path) -> None:
    module, text = load(of_the_first_version), of_the_first_version.read_text()
    generator = module.generator(module.tiny())
    meta = {"recipe": "espcn", "recipe_source": text, "config": module.tiny().model_dump(), "scale": 4}
    save_model(tmp_path / "model", generator, meta)
    model = load_model(tmp_path / "model", allowed=[str(of_the_first_version)])
    lr = torch.rand(1, 3, 6, 5)
    assert torch.equal(upscale(model.generator, lr, tile=0), generator(lr))


def test_an_optimizer_belongs_to_the_network_whose_values_it_steps(tmp_path: Path) -> None:
    recipe = build_recipe(espcn, espcn.tiny())
    assert stepped_networks(parts_of(recipe)) == {"optimizer": "generator"}


@pytest.mark.mlflow
@pytest.mark.slow
def test_the_readme_s_recipe_trains_measures_and_upscales(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], forked_courier: None
) -> None:
    from PIL import Image

    path = write(tmp_path / "mine")
    assert sisr("train", path, *SMALL, "--json", "--local") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["state"], result["step"]) == ("finished", 4)
    assert result["run"].startswith("espcn-")
    run = Path("runs") / result["run"]
    for copy in (run / "recipe.py", run / "model/recipe.py", run / "checkpoints/step_000000004/recipe.py"):
        assert copy.read_text() == path.read_text()
    path.unlink()
    assert sisr("evaluate", result["run"], "--json") == 0
    assert json.loads(capsys.readouterr().out)["mean"]["psnr_y"] > 1
    Image.effect_noise((9, 8), 50).convert("RGB").save("photo.jpg")
    assert sisr("upscale", "photo.jpg", "--model", result["run"], "--compare") == 0
    with Image.open("photo_x4.png") as sr, Image.open("photo_x4_compare.png") as compared:
        assert (sr.size, compared.width) == ((36, 32), 3 * 36)
        assert compared.height > 32, "the columns are named above the pictures"


@pytest.mark.slow
def test_a_worker_builds_the_recipe_from_the_run_alone(tmp_path: Path) -> None:
    run, _, _ = prepared(write(tmp_path / "mine"))
    (tmp_path / "mine/espcn.py").unlink()
    program = (
        "import json, sys; from sisr.training.run import Run; run = Run(**json.load(sys.stdin)); "
        "print(type(run.build_recipe().generator).__name__, run.recipe_config().num_features)"
    )
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=run.model_dump_json(),
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "Sequential 4\n", done.stderr


def test_a_changed_file_is_another_run_and_ours_keep_their_names(tmp_path: Path) -> None:
    first, _, _ = prepared(write(tmp_path / "a"))
    moved, _, _ = prepared(write(tmp_path / "b"))
    changed, _, _ = prepared(write(tmp_path / "c", "espcn.py", ("last = nn.Tanh()", "last = nn.ReLU()")))
    assert first.name == moved.name != changed.name
    fields = {"name": "a", "recipe": "srez", "config": {"scale": 4}, "options": Options(), "data": "demo"}
    assert Run(**fields).config_hash == "80bac694", "runs recorded before recipes could come from outside go on"


def test_going_on_with_a_changed_file_is_refused_until_it_is_allowed(tmp_path: Path) -> None:
    run, folder, data = prepared(write(tmp_path / "a"), name="mine")
    take_up(run, folder, data, False)
    (folder.checkpoints / "step_000000002").mkdir(parents=True)
    changed, _, _ = prepared(write(tmp_path / "b", "espcn.py", ("last = nn.Tanh()", "last = nn.ReLU()")), name="mine")
    with pytest.raises(ConfigError, match="recipe file changed"):
        take_up(changed, folder, data, False)
    assert take_up(changed, folder, data, True)
    assert "last = nn.ReLU()" in folder.next_run.read_text(), "becomes the record once its checkpoint is restored"


def test_a_recipe_of_ours_may_be_shadowed_by_a_file_of_its_name(tmp_path: Path) -> None:
    run, _, _ = prepared(write(tmp_path, "srez.py"))
    assert run.recipe == "srez"
    assert run.build_recipe().generator.tiling.halo == 4
    assert type(load("srez").tiny()).__module__ == "sisr.recipes.srez"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of recipes that is installed here: `alone` imports nothing of its own, `tied` does."""
    name = f"recipes_of_{tmp_path.name}".replace("-", "_")
    folder = tmp_path / "installed" / name
    write(folder, "alone.py")
    write(folder, "tied.py", ("from torch", "from .sizes import SMALLEST\nfrom torch"))
    (folder / "__init__.py").write_text("")
    (folder / "sizes.py").write_text("SMALLEST = 16\n")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    return name


def test_a_module_that_stands_alone_travels_like_a_file(package: str) -> None:
    source = recipes.find(f"{package}.alone")
    assert (source.name, source.text) == ("alone", outside_recipe.text())
    assert load(f"{package}.alone").__name__.startswith("sisr_user_recipe_")


def test_a_module_that_needs_its_package_must_be_installed_as_it_was(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _, _ = prepared(f"{package}.tied")
    assert run.recipe == f"{package}.tied"
    assert type(run.build_recipe()).__module__ == f"{package}.tied"
    with open(tmp_path / "installed" / package / "tied.py", "a") as file:
        file.write("# changed\n")
    with pytest.raises(ConfigError, match="installed here in another version"):
        run.build_recipe()
    elsewhere = run.model_copy(update={"recipe": "not_there.tied"})
    with pytest.raises(ConfigError, match="install that on every machine"):
        elsewhere.build_recipe()


MISTAKES = {
    "syntax.py": ("def f(:\n", "syntax.py:1: invalid syntax"),
    "missing.py": ("import torch\nimport not_there\n", "missing.py:2: ModuleNotFoundError.*put 'not_there' into it"),
    "relative.py": ("\nfrom . import x\n", "relative.py:2 imports relatively"),
    "broken.py": ("x = 1\ny = x / 0\n", "broken.py:2: ZeroDivisionError: division by zero"),
    "part.py": ("class Config: ...\n", "part.py lacks Recipe, generator, tiny"),
    "my recipe.py": ("", "can't name runs"),
}


def test_the_name_of_a_run_in_the_place_of_a_recipe_s_is_told_how_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "runs/second").mkdir(parents=True)
    (tmp_path / "runs/second/run.json").write_text("{}")
    with pytest.raises(ConfigError, match="second is a run, not a recipe: `sisr train --from second --name second`"):
        prepare(Order(recipe="second", runs=tmp_path / "runs"))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_file_that_is_no_recipe_is_explained_by_file_and_line(name: str, tmp_path: Path) -> None:
    content, message = MISTAKES[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / name)
    assert not [module for module in sys.modules if "user_recipe" in module and name[:-3] in module]


def with_roles(arguments: str) -> tuple[str, str]:
    """Return the change that lets the example declare its roles."""
    first = "class Recipe:\n"
    return first, f"{first}    from sisr.recipe import Judge, Roles\n\n    roles = Roles({arguments})\n"


NETWORK = "nn.Sequential(*first, *last)"
WITHOUT_TILING = (f"as_generator({NETWORK}, Tiling(config.scale, halo=4))", NETWORK)
CHANGES = {
    "Config must be a class derived from sisr.config.Settings": [("class Config(Settings)", "class Config")],
    "Config lacks steps": [("    steps: int", "    stepz: int")],
    "the generator Sequential does not say how it may be tiled: .*Tiling": [WITHOUT_TILING],
    "espcn.py:21: ValueError: a generator's scale must be a whole number >= 1, got 4.0": [
        ("Tiling(config.scale", "Tiling(float(config.scale)")
    ],
    "espcn.py: Recipe lacks degrade": [("def degrade", "def downscale")],
    "espcn.py: Recipe.crop must be a sisr.recipe.Crop": [("Crop(side=config.hr_crop)", "config.hr_crop")],
    "espcn.py: Recipe.parts.. must hold the generator as 'generator', holds net": [
        ("    def degrade", "    def parts(self): return {'net': self.generator}\n    def degrade")
    ],
    "Recipe.roles names the judge 'x', which is no network": [with_roles("judges=(Judge('x', 'logits'),)")],
    r"scale 4 made sr of size \(1, 3, 16, 16\) from lr of size \(1, 3, 8, 8\); it must be \(1, 3, 32, 32\)": [
        ("nn.PixelShuffle(config.scale)", "nn.PixelShuffle(2)"),
        ("3 * config.scale**2", "12"),
    ],
    "espcn.py:21: NameError: name 'first' is not defined": [("first = ", "second = ")],
}


@pytest.mark.parametrize("message", CHANGES)
def test_what_a_recipe_lacks_is_said_before_anything_starts(message: str, tmp_path: Path) -> None:
    path = write(tmp_path, "espcn.py", *CHANGES[message])
    with pytest.raises(ConfigError, match=message):
        prepared(path)
    assert not Path("runs").exists()


def test_a_network_that_needs_numbers_to_be_built_is_built(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "espcn.py",
        (
            "Tiling(config.scale",
            "Tiling(int(config.scale + 0 * first[0].bias.sum().item())",
        ),
    )
    run, _, _ = prepared(path)
    assert run.build_recipe().generator.tiling.scale == 4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no/such.py", "no recipe file no/such.py"),
        ("not_there.recipe", "no recipe not_there.recipe"),
        ("json.tool", "tool lacks Config|json.tool lacks Config"),
        ("near", r"did you mean near\.py\?"),
        ("sisr", "no recipe 'sisr'"),
        ("", "no recipe ''"),
    ],
)
def test_a_name_of_nothing_is_explained(spec: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "near.py").write_text("")
    with pytest.raises(ConfigError, match=message):
        load(spec)


def test_finding_a_recipe_executes_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import os\nos.mkdir('executed')\n")
    recipes.find(str(tmp_path / "bad.py"))
    assert not Path("executed").exists()


def test_an_error_in_training_names_the_recipe_s_line(tmp_path: Path) -> None:
    path = write(tmp_path, "espcn.py", ("pixel.l1(", "pixel.l9("))
    run, _, _ = prepared(path)
    recipe = run.build_recipe()
    with pytest.raises(ConfigError, match=r"recipe espcn\.py:\d+: AttributeError.*l9"), explain_recipe_errors(run):
        recipe.train_step(*[None] * 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["CUDA error: device lost", "Connection closed by peer", "out of memory"])
def test_what_others_broke_is_not_blamed_on_the_recipe(text: str, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "espcn.py",
        ("        loss = pixel.l1", f"        raise RuntimeError('{text}')\n        loss = pixel.l1"),
    )
    run, _, _ = prepared(path)
    with pytest.raises(RuntimeError, match=text) as raised, explain_recipe_errors(run):
        run.build_recipe().train_step(*[None] * 5)  # type: ignore[arg-type]
    assert not isinstance(raised.value, ConfigError)


# Each is (what is replaced in the README's recipe, by what).
TRAIN = "        loss = pixel.l1(self.generator(lr), hr)\n        update(self.optimizer, loss)"
JUDGE = (
    (
        "        self.optimizer = ",
        "        self.judge = nn.Conv2d(3, 1, 3)\n"
        "        self.judge_optimizer = optim.Adam(self.judge.parameters())\n"
        "        self.optimizer = ",
    ),
)
BREAKS: dict[str, tuple[tuple[str, str], ...]] = {
    "builds from tiny() and has what training and inference ask for": (WITHOUT_TILING,),
    "makes lr of hr, in the range of images": (("return degradations.quantise(", "return 2 * ("),),
    "gives every trainable value exactly one optimizer": (("Adam(self.generator.p", "Adam(self.generator[0].p"),),
    "moves every network and leaves no NaN": JUDGE,
    "logs detached scalars": (("loss.detach()", "loss"),),
    "keeps the judge out of the generator's loss": (
        *JUDGE,
        (TRAIN, f"        self.judge(hr).mean().backward()\n{TRAIN}"),
    ),
    "gives the same steps for the same seed": (
        ("from torch import", "import torch\nfrom torch import"),
        ("(self.generator(lr), hr)", "(self.generator(lr + torch.rand(())), hr)"),
    ),
    "goes on after saving and loading as if uninterrupted": (
        ("        self.optimizer = ", "        self.seen = 0\n        self.optimizer = "),
        (TRAIN, f"        self.seen += 1\n        lr = lr / self.seen\n{TRAIN}"),
    ),
    "makes sr of every size it claims to take": (("5, padding=2", "5, padding=2, padding_mode='reflect'"),),
}


LOGGED = 'return {"generator/pixel": loss.detach()}'


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ((LOGGED, 'return {"generator/pixel": loss.detach().repeat(2)}'), "'generator/pixel' is a tensor (2,)"),
        ((LOGGED, 'return {"generator/pixel": "0.1"}'), "'generator/pixel' is '0.1'"),
        ((LOGGED, "return loss.detach()"), "must return a dict of scalar tensors by name"),
        (with_roles("pixel_loss='generator/mse'"), "roles names scalars that no step logged: generator/mse"),
        (("loss.detach()", "loss"), "must return detached tensors: use .detach(); wrong: generator/pixel"),
        (("nn.PixelShuffle(config.scale)", "nn.Identity()"), "made sr of size (1, 48, 8, 8) from lr of size (1, 3, 8"),
        (("return degradations.quantise(", "return 2 * ("), "it must lie in 0 .. 1"),
        (
            ("degradations.bicubic(hr, ", "degradations.bicubic(hr, 2 * "),
            "lr of size (2, 3, 2, 2); it must be (2, 3, 4",
        ),
    ],
)
def test_a_broken_promise_is_explained(change: tuple[str, str], problem: str, tmp_path: Path) -> None:
    found = [str(error) for _, error in contract.verdicts(load(write(tmp_path, "espcn.py", change))) if error]
    assert any(problem in error for error in found), found


def test_a_step_that_logs_no_scalars_ends_training_with_the_name_of_the_value(tmp_path: Path) -> None:
    run, folder, _ = prepared(write(tmp_path, "espcn.py", (LOGGED, 'return {"generator/pixel": loss.detach()[None]}')))
    with pytest.raises(ConfigError, match=r"train_step must return scalar tensors; 'generator/pixel' is a tensor"):
        train_here(run, folder, NoLog())


@pytest.mark.parametrize("what", contract.CHECKS)
def test_each_check_finds_a_recipe_that_breaks_it(what: str, tmp_path: Path) -> None:
    found = {check for check, error in contract.verdicts(load(write(tmp_path, "espcn.py", *BREAKS[what]))) if error}
    assert what in found


def test_the_readme_s_recipe_passes_every_check_and_a_broken_one_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sisr("recipes", write(tmp_path), "--check") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in said] == ["ok  "] * len(contract.CHECKS)
    assert sisr("recipes", write(tmp_path, "bad.py", ("pixel.l1", "pixel.l9")), "--check") == 2
    failed = capsys.readouterr()
    assert "FAIL  moves every network" in failed.out
    assert "bad.py:33: AttributeError" in failed.out
    assert "fails 5 of 9 checks" in failed.err


def test_a_recipe_file_is_described_like_one_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sisr("recipes", write(tmp_path), "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["recipes"]
    assert (found["name"], found["scale"]) == ("espcn", 4)
    assert found["source"].startswith("Shi et al.")


def test_the_digest_is_the_file_s_own(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_bytes("# \u00e4\r\n".encode())
    done = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
    assert outside.find(str(path)).sha256 == done.stdout.split()[0]
    assert os.fspath(path) == outside.find(str(path)).where
