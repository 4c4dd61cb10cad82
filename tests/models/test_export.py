"""Models as files for other programs: the file alone gives what the generator gives, at any size."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from sisr import recipes
from sisr.errors import CheckpointError, ConfigError
from sisr.inference.tiled import Bicubic
from sisr.models import export
from sisr.models.files import find_model, save_model
from sisr.models.model import Model, load_model
from sisr.recipe import Generator, Tiling
from sisr.terminal import cli

META = {"step": 7}


def make(recipe: str) -> Model:
    """Return a model of a recipe with random weights, whose output differs from bicubic."""
    module = recipes.load(recipe)
    config = module.tiny()
    generator = module.generator(config).eval()
    torch.manual_seed(0)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    meta = {"format": 1, "recipe": recipe, "config": config.model_dump(mode="json"), "scale": config.scale, **META}
    return Model(recipe, generator, meta)


def lr_of(model: Model, n: int, height: int, width: int) -> torch.Tensor:
    multiple = model.generator.tiling.size_multiple
    return torch.rand(n, 3, height * multiple, width * multiple)


@pytest.fixture(scope="module")
def model():
    return make("pixelshuffle")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Return the folder of the same model on the disk."""
    path = tmp_path_factory.mktemp("models") / "mine"
    save_model(path, model.generator, {k: v for k, v in model.meta.items() if k != "format"})
    return path


@pytest.mark.slow
@pytest.mark.parametrize("recipe", recipes.names())
def test_every_recipe_s_pt2_equals_the_generator_at_any_size_and_batch(recipe, tmp_path):
    made = make(recipe)
    export.export(made, tmp_path / "x.pt2", "pt2")
    written = torch.export.load(tmp_path / "x.pt2").module()
    for n, height, width in ((1, 5, 9), (4, 8, 3)):
        lr = lr_of(made, n, height, width)
        with torch.inference_mode():
            torch.testing.assert_close(written(lr), made.generator(lr), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["encdec_gan", "pixelshuffle"])
def test_onnx_equals_the_generator_at_any_size_and_batch(recipe, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    made = make(recipe)
    export.export(made, tmp_path / "x.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    for n, height, width in ((1, 5, 9), (4, 8, 3)):
        lr = lr_of(made, n, height, width)
        with torch.inference_mode():
            expected = made.generator(lr).numpy()
        np.testing.assert_allclose(session.run(["sr"], {"lr": lr.numpy()})[0], expected, atol=1e-4)
    props = session.get_modelmeta().custom_metadata_map
    assert (props["recipe"], props["scale"], props["step"]) == (recipe, str(made.scale), "7")


def test_bicubic_can_be_exported_for_a_network_s_place(tmp_path):
    export.export(Model("bicubic", Bicubic(3).eval(), {}), tmp_path / "b.pt2", "pt2")
    assert torch.export.load(tmp_path / "b.pt2").module()(torch.rand(1, 3, 6, 5)).shape == (1, 3, 18, 15)


def test_an_exported_safetensors_file_is_a_model_by_itself(model, tmp_path):
    export.export(model, tmp_path / "alone" / "x.safetensors", "safetensors")
    with safe_open(tmp_path / "alone" / "x.safetensors", "pt") as file:
        said = file.metadata()
    assert (said["recipe"], said["scale"], said["step"]) == ("pixelshuffle", str(model.scale), "7")
    assert json.loads(said["sisr"])["config"] == model.meta["config"]
    loaded = load_model(find_model(str(tmp_path / "alone" / "x.safetensors"), tmp_path / "runs"))
    lr = torch.rand(1, 3, 8, 8)
    assert loaded.meta["step"] == 7
    assert torch.equal(loaded.generator(lr), model.generator(lr))


@pytest.mark.slow
def test_pt2_says_which_model_it_is(model, tmp_path):
    export.export(model, tmp_path / "x.pt2", "pt2")
    texts = {"recipe.txt": "", "sisr.txt": ""}
    torch.export.load(tmp_path / "x.pt2", extra_files=texts)
    assert texts["recipe.txt"] == "pixelshuffle"
    assert json.loads(texts["sisr.txt"])["scale"] == model.scale


def test_what_differs_from_the_model_is_not_put_in_place(model, tmp_path, monkeypatch):
    target = tmp_path / "x.safetensors"
    target.write_bytes(b"older")
    write, read = export._WAYS["safetensors"]
    monkeypatch.setitem(export._WAYS, "safetensors", (write, lambda path: lambda lr: read(path)(lr) + 0.01))
    with pytest.raises(CheckpointError, match=r"\(1, 3, 16, 24\) differs by up to 0\.01 .*allowed is 0\.0001"):
        export.export(model, target, "safetensors")
    assert target.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [target]


def test_sr_that_is_not_finite_is_a_difference(model, tmp_path, monkeypatch):
    write, _ = export._WAYS["safetensors"]
    monkeypatch.setitem(export._WAYS, "safetensors", (write, lambda path: lambda lr: lr.new_tensor(torch.nan)))
    with pytest.raises(CheckpointError, match="differs by up to nan"):
        export.export(model, tmp_path / "x.safetensors", "safetensors")


class Unexportable(Generator):
    tiling = Tiling(1, halo=0)

    def forward(self, lr):
        return lr if lr.sum() > 0 else -lr


def test_a_model_that_can_t_be_exported_is_named_with_the_reason(tmp_path):
    with pytest.raises(CheckpointError, match=r"odd can't be written as pt2: .+"):
        export.export(Model("odd", Unexportable(), {}), tmp_path / "x.pt2", "pt2")
    assert list(tmp_path.iterdir()) == []


def test_weights_without_a_recipe_are_no_safetensors_model(tmp_path):
    with pytest.raises(ConfigError, match="bicubic has no recipe"):
        export.export(Model("bicubic", Bicubic(2), {}), tmp_path / "x.safetensors", "safetensors")


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ConfigError, match=r"needs the package onnxscript: pip install 'sisr\[export\]'"):
        export.require("onnx")
    export.require("pt2")


def sisr(*argv: object) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["export", *map(str, argv)])
    return int(end.value.code or 0)


def test_the_command_says_how_exact_the_file_is(folder, tmp_path, capsys):
    assert sisr(folder, "--out", tmp_path / "new" / "x.pt2") == 0
    said = capsys.readouterr().out
    assert "pt2, " in said
    assert said.count("differs from the model by at most") == 3


def test_the_file_is_called_as_the_model_where_no_name_is_given(folder, tmp_path, capsys):
    assert sisr(folder, "--format", "safetensors", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["output"] == "mine.safetensors"
    assert (tmp_path / "mine.safetensors").stat().st_size == found["bytes"]
    assert [check["largest"] for check in found["checks"]] == [0, 0, 0]


def test_an_older_file_is_replaced_only_if_asked(folder, tmp_path, capsys):
    (tmp_path / "x.safetensors").write_bytes(b"older")
    assert sisr(folder, "--out", "x.safetensors") == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert (tmp_path / "x.safetensors").read_bytes() == b"older"
    assert sisr(folder, "--out", "x.safetensors", "--force") == 0
    assert load_model(tmp_path / "x.safetensors").scale == 4


@pytest.mark.parametrize(
    ("argv", "code", "reason"),
    [
        ([], 2, "which format? --format safetensors, pt2, onnx"),
        (
            ["--format", "torchscript"],
            2,
            "--format torchscript names no format; choose --format safetensors, pt2, onnx",
        ),
        (["--out", "x.pt"], 2, "--output x.pt names no format"),
        (["--out", "x.onnx", "--format", "pt2"], 2, "contradict each other"),
        (["--out", ".", "--format", "pt2"], 2, "is a folder"),
        (["--out", "file/x.safetensors"], 73, "file/x.safetensors can't be written"),
    ],
)
def test_a_mistake_is_explained(folder, tmp_path, capsys, argv, code, reason):
    (tmp_path / "file").write_text("")
    assert sisr(folder, *argv) == code
    assert reason in capsys.readouterr().err


def test_a_model_that_is_not_there_is_named(capsys):
    assert sisr("nobody", "--format", "pt2") == 4
    assert "no model 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "name"),
    [("runs/r1/", "r1"), ("x.safetensors", "x"), ("models:/x@best", "x-best"), ("models:/x/3", "x-3"), ("r1", "r1")],
)
def test_a_model_s_short_name(spec, name):
    from sisr.driver import models

    assert models.short(spec) == name


def test_a_file_for_other_programs_is_no_model_and_a_recipe_s_name_is_no_run(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"onnx")
    with pytest.raises(CheckpointError, match=r"x\.onnx holds no weights that sisr reads .*export it as safetensors"):
        find_model(str(tmp_path / "x.onnx"), tmp_path)
    with pytest.raises(CheckpointError, match="a recipe's name; what was registered under it is models:/srez@champion"):
        find_model("srez", tmp_path)
