"""Code that lies beside a model runs only where its user has said so."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_model
from outside_recipe import write
from sisr import recipes
from sisr.errors import CheckpointError, ConfigError
from sisr.models import trust
from sisr.models.files import save_model, save_one_file
from sisr.models.model import load_model
from sisr.terminal import cli

LOUD = ("from torch", "open('executed', 'w').close()\nfrom torch")  # what it does shows


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    """A model folder, and the recipe file it was made with; the code has left no trace."""
    path = write(tmp_path / "mine", "espcn.py", LOUD)
    source = recipes.find(str(path))
    module = recipes.load(source.name, source.text)
    config = module.tiny()
    torch.manual_seed(0)
    meta = {"recipe": "espcn", "recipe_source": source.text, "config": config.model_dump(), "scale": 4}
    save_model(tmp_path / "model", module.generator(config), meta)
    Path("executed").unlink(missing_ok=True)
    return tmp_path / "model", path


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that the code would have to run again."""
    for name in [name for name in sys.modules if name.startswith("sisr_user_recipe_")]:
        monkeypatch.delitem(sys.modules, name)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    meta = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in meta.items() if value is not None}))


def test_a_model_that_brings_unknown_code_is_refused_and_says_how_to_allow_it(
    saved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = saved
    forget(monkeypatch)
    with pytest.raises(CheckpointError, match=f"needs the code in {folder}/recipe.py.*--recipe {folder}/recipe.py"):
        load_model(folder)
    assert not Path("executed").exists()
    for allowed in (path, folder / "recipe.py", shutil.copy(path, "renamed.py")):
        forget(monkeypatch)
        assert load_model(folder, allowed=[str(allowed)]).scale == 4
    assert Path("executed").exists()


def test_one_file_holds_the_code_too_and_is_judged_alike(
    saved: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = saved
    model = load_model(folder, allowed=[str(path)])
    save_one_file(tmp_path / "alone.safetensors", model.generator, model.meta)
    shutil.rmtree(folder)
    Path("executed").unlink(missing_ok=True)
    forget(monkeypatch)
    with pytest.raises(CheckpointError, match=r"alone\.safetensors needs the code of its recipe.*--recipe espcn\.py"):
        load_model(tmp_path / "alone.safetensors")
    assert not Path("executed").exists()
    allowed = load_model(tmp_path / "alone.safetensors", allowed=[str(path)])
    trust.remember("espcn", path.read_text(), str(path))
    trusted = load_model(tmp_path / "alone.safetensors")
    lr = torch.rand(1, 3, 5, 4)
    assert torch.equal(allowed.generator(lr), model.generator(lr))
    assert torch.equal(trusted.generator(lr), model.generator(lr))


def test_what_was_trained_with_on_this_machine_runs_wherever_the_model_lies(
    saved: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, path = saved
    trust.remember("espcn", path.read_text(), str(path))
    path.unlink()
    folder.rename(tmp_path / "moved")
    generator = load_model(tmp_path / "moved").generator
    assert generator(torch.zeros(1, 3, 4, 5)).shape == (1, 3, 16, 20)


def test_another_recipe_file_than_the_model_s_is_refused_by_name(saved: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = saved
    other = write(tmp_path / "other", "espcn.py")
    with pytest.raises(CheckpointError, match=rf"another than {other}"):
        load_model(folder, allowed=[str(other)])
    with pytest.raises(ConfigError, match=r"no recipe file gone\.py"):
        load_model(folder, allowed=["gone.py"])


def test_code_that_was_changed_after_saving_is_refused_even_where_the_original_is_trusted(
    saved: tuple[Path, Path],
) -> None:
    folder, path = saved
    trust.remember("espcn", path.read_text(), str(path))
    with open(folder / "recipe.py", "a") as file:
        file.write("# changed\n")
    with pytest.raises(CheckpointError, match="was changed since the model was saved"):
        load_model(folder)


@pytest.mark.parametrize("name", ["{folder}/recipe.py", "recipe.py", "espcn", "json.tool", "../espcn"])
def test_a_model_can_t_name_code_instead_of_a_recipe_of_ours(
    name: str, saved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = saved
    forget(monkeypatch)
    change_config(folder, recipe=name.format(folder=folder), recipe_sha256=None)
    with pytest.raises(CheckpointError, match="describes no generator"):
        load_model(folder)
    assert not Path("executed").exists()


@pytest.mark.parametrize("form", ["folder", "one file"])
def test_a_name_in_a_model_s_file_is_looked_up_and_never_imported(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "harmful").mkdir(parents=True)
    (tmp_path / "here" / "harmful" / "__init__.py").write_text("open('executed', 'w').close()\n")
    (tmp_path / "here" / "harmful" / "x.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "here")
    path = tiny_model.save(tmp_path / "model")
    if form == "folder":
        change_config(path, recipe="harmful.x")
    else:
        model = load_model(path)
        path = tmp_path / "one.safetensors"
        save_one_file(path, model.generator, model.meta | {"recipe": "harmful.x"})
    with pytest.raises(CheckpointError, match=r"describes no generator.*no recipe 'harmful\.x'; all recipes: "):
        load_model(path)
    assert not Path("executed").exists()
    assert "harmful" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"scale": "x"}, "'scale' must be a whole number >= 1, it is 'x'"),
        ({"scale": True}, "'scale' must be a whole number >= 1, it is True"),
        ({"scale": 0}, "'scale' must be a whole number >= 1, it is 0"),
        ({"scale": 3}, "says scale 3, but its generator's is 4"),
        ({"recipe": 7}, "'recipe' must be a text, it is 7"),
        ({"recipe": None}, "'recipe' must be a text, it is missing"),
        ({"config": [1]}, "'config' must be an object, it is [1]"),
        ({"recipe_sha256": 5}, "'recipe_sha256' must be a text, it is 5"),
        ({"format": 9}, "has format 9; this version reads format 1"),
    ],
)
def test_a_config_that_says_nonsense_is_no_model_and_nobody_s_mistake_but_the_file_s(
    changes: dict[str, Any], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_model.save(tmp_path / "model")
    change_config(folder, **changes)
    with pytest.raises(SystemExit) as end:
        cli.main(["export", str(folder), "--format", "safetensors"])
    assert end.value.code == 4
    assert problem in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff\xfe", b"{}"])
def test_a_config_that_is_none_is_no_model(content: bytes, tmp_path: Path) -> None:
    folder = tiny_model.save(tmp_path / "model")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(folder)


@pytest.mark.parametrize("name", ["json.tool", "../../model/x"])
def test_trusted_code_under_another_name_is_not_trusted(name: str, saved: tuple[Path, Path]) -> None:
    folder, path = saved
    trust.remember("espcn", path.read_text(), str(path))
    change_config(folder, recipe=name)
    with pytest.raises(CheckpointError, match="never trained with on this machine"):
        load_model(folder)


def test_trust_that_somebody_else_wrote_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    trust.remember("a", "text", "a.py")
    assert trust.is_trusted("a", "text")
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert not trust.is_trusted("a", "text")


def entry_of(cache: Path) -> Path:
    trust.remember("a", "text", "a.py")
    assert trust.is_trusted("a", "text")
    (entry,) = (cache / "trusted_recipes").iterdir()
    return entry


def test_a_link_is_no_trust(tmp_path: Path) -> None:
    entry = entry_of(tmp_path / "cache")
    entry.rename(tmp_path / "mine")
    entry.symlink_to(tmp_path / "mine")
    assert not trust.is_trusted("a", "text")


def test_a_linked_folder_is_no_trust_and_is_not_written_through(tmp_path: Path) -> None:
    folder = entry_of(tmp_path / "cache").parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert not trust.is_trusted("a", "text")
    trust.remember("b", "text", "b.py")
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
def test_a_folder_that_others_can_write_is_no_trust(mode: int, tmp_path: Path) -> None:
    entry_of(tmp_path / "cache").parent.chmod(mode)
    assert not trust.is_trusted("a", "text")


def test_an_entry_that_everybody_can_write_is_no_trust(tmp_path: Path) -> None:
    entry_of(tmp_path / "cache").chmod(0o666)
    assert not trust.is_trusted("a", "text")


def test_a_cache_that_can_t_be_written_only_means_no_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "file"))
    trust.remember("a", "text", "a.py")
    assert not trust.is_trusted("a", "text")


@pytest.mark.mlflow
def test_a_model_with_code_from_mlflow_is_kept_with_its_code_and_refused(
    saved: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import numpy as np
    from mlflow import MlflowClient

    from sisr.tracking.registry import download_model, log_generator

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri)
    experiment = client.create_experiment("x", artifact_location=(tmp_path / "artifacts").as_uri())
    logged = log_generator(client, client.create_run(experiment).info.run_id, saved[0], "final")
    fetched = download_model(f"models:/{logged}", tracking_uri=uri)
    assert (fetched / "recipe.py").read_text() == saved[1].read_text()
    with pytest.raises(CheckpointError, match="never trained with on this machine"):
        load_model(fetched)
    assert load_model(fetched, allowed=[str(fetched / "recipe.py")]).scale == 4
    # MLflow's own way executes code of the model in any case, and so may.
    served = mlflow.pyfunc.load_model(f"models:/{logged}")
    assert served.predict(np.zeros((1, 4, 4, 3), np.uint8)).shape == (1, 16, 16, 3)
