"""Measuring models under a protocol: the published figures, and what a protocol means."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models.vgg import cfgs, make_layers  # type: ignore[import-untyped]

from measured import evaluate_model
from sisr import recipes
from sisr.data.images import decode
from sisr.data.sources import ImageFile
from sisr.data.sources.catalogue import open_source
from sisr.driver import models
from sisr.errors import ConfigError, DataError
from sisr.inference.tiled import Bicubic
from sisr.metrics.protocol import protocol
from sisr.models import files
from sisr.recipe import Generator, Tiling
from sisr.terminal import cli, console


class Nearest(Generator):
    """Repeats every pixel, then adds an offset to each channel."""

    def __init__(self, scale: int, offsets: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        super().__init__()
        self.tiling = Tiling(scale, halo=0)
        self.offsets = nn.Parameter(torch.tensor(offsets).view(3, 1, 1))

    def forward(self, lr):
        scale = self.tiling.scale
        return lr.repeat_interleave(scale, 2).repeat_interleave(scale, 3) + self.offsets


def noise(height: int = 40, width: int = 44, *channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)


def flat(value: int, size: int = 32) -> np.ndarray:
    return np.full((size, size, 3), value, dtype=np.uint8)


@pytest.fixture
def set5(shared_data):
    return [(p.name, decode(p)) for p in sorted((shared_data / "Set5" / "HR").glob("*.png"))]


@pytest.mark.data
def test_bicubic_on_set5_is_the_published_luma_row(set5):
    mean = evaluate_model("bicubic", set5, 4, "y").mean
    assert (round(mean["psnr_y"], 4), round(mean["ssim_y"], 4)) == (28.4207, 0.8104)


@pytest.mark.data
def test_bicubic_on_set5_is_the_published_8_bit_rgb_row(set5):
    mean = evaluate_model("bicubic", set5, 4, "rgb8").mean
    assert (round(mean["psnr_y"], 3), round(mean["ssim_y"], 4)) == (28.429, 0.8111)


def test_the_mean_is_of_the_images_values():
    images = [("a", noise(40, 44, 3)), ("b", noise(60, 50, 3, seed=1))]
    report = evaluate_model(Nearest(2), images, 2)
    each = [i.values["psnr_y"] for i in report.images]
    assert report.mean["psnr_y"] == pytest.approx(sum(each) / 2)


def test_sr_is_rounded_to_8_bits_before_it_is_measured():
    """An offset of 0.4 grey levels disappears, one of 0.6 counts as a whole level."""
    images = [("flat", flat(100))]
    assert evaluate_model(Nearest(2, (0.4 / 255,) * 3), images, 2).mean["psnr_rgb"] == math.inf
    one_level = evaluate_model(Nearest(2, (0.6 / 255,) * 3), images, 2).mean["psnr_rgb"]
    assert one_level == pytest.approx(20 * math.log10(255))


def test_sr_is_clipped_before_it_is_measured():
    assert evaluate_model(Nearest(2, (0.5,) * 3), [("white", flat(255))], 2).mean["psnr_rgb"] == math.inf


def test_the_luma_protocol_feeds_luma_to_three_channels_and_averages_the_three_that_come_back():
    offsets = (3 / 255, 1 / 255, -1 / 255)  # 1 grey level on average
    mean = evaluate_model(Nearest(2, offsets), [("flat", flat(100))], 2, "y").mean
    assert mean == pytest.approx({"psnr_y": 20 * math.log10(255), "ssim_y": mean["ssim_y"]})


def test_a_grey_image_is_its_own_luma_in_the_luma_protocol():
    """255 counts as 255, not as 235: that is how the tables treat the grey image of Set14."""
    image = noise(40, 44)
    grey = evaluate_model(Nearest(2), [("grey", image)], 2, "y").mean["psnr_y"]
    as_rgb = evaluate_model(Nearest(2), [("rgb", np.repeat(image[..., None], 3, axis=2))], 2, "y").mean["psnr_y"]
    assert grey == pytest.approx(as_rgb + 20 * math.log10(219 / 255), abs=0.01)


def test_bicubic_as_a_network_scores_as_matlabs():
    images = [("noise", noise(40, 44, 3))]
    theirs = evaluate_model("bicubic", images, 2, "y").mean
    assert evaluate_model(Bicubic(2), images, 2, "y").mean == pytest.approx(theirs, abs=2e-3)


def test_hr_is_cut_to_a_multiple_of_the_scale():
    image = noise(45, 46, 3)
    whole = evaluate_model("bicubic", [("x", image)], 4).mean
    assert whole == evaluate_model("bicubic", [("x", image[:44, :44])], 4).mean


def test_the_report_carries_the_protocol():
    report = evaluate_model("bicubic", [("x", noise(40, 44, 3))], 3, "rgb8").to_json()
    assert report["protocol"] == "rgb8|Y-of-RGB|crop3|matlab-mirror-u8|sr-u8|mod3|mean-of-images"
    assert report["model"] == "bicubic"
    assert report["images"][0]["name"] == "x"
    assert set(report["mean"]) == {"psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"}


def test_infinity_becomes_null_in_json(capsys):
    console.print_json(evaluate_model("bicubic", [("flat", flat(7))], 2).to_json())
    assert json.loads(capsys.readouterr().out)["mean"]["psnr_rgb"] is None


def test_a_generator_is_left_in_the_mode_it_was_in():
    generator = Nearest(2).train()
    generator.frozen = nn.Identity().eval()
    seen = []
    generator.register_forward_hook(lambda module, *_: seen.append(module.training))
    evaluate_model(generator, [("x", flat(1))], 2)
    assert set(seen) == {False}
    assert generator.training
    assert not generator.frozen.training


def test_no_images_is_an_error_instead_of_nan():
    with pytest.raises(DataError, match="no images"):
        evaluate_model("bicubic", [], 4)


def test_an_image_too_small_for_the_border_and_window_is_named():
    with pytest.raises(DataError, match=r"tiny\.png is 18x30 px: too small"):
        evaluate_model("bicubic", [("tiny.png", noise(30, 18, 3))], 4)


def test_an_unknown_protocol_lists_all():
    with pytest.raises(ConfigError, match=r"no protocol 'rgb'; did you mean 'rgb8'.*LR kept in double"):
        protocol("rgb")


def evaluate(*argv: object) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", *map(str, argv)])
    return int(end.value.code or 0)


def compare(*argv: object) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["compare", *map(str, argv), "--no-log"])
    return int(end.value.code or 0)


@pytest.fixture
def folder(tmp_path):
    """A folder with a colour and a grey image."""
    (tmp_path / "images").mkdir()
    Image.fromarray(noise(40, 44, 3)).save("images/a.png")
    Image.fromarray(noise(40, 44)).save("images/b.png")
    return "images"


def save_model(path, *, recipe: str = "pixelshuffle", **settings: object) -> str:
    torch.manual_seed(0)
    module = recipes.load(recipe)
    config = module.tiny().model_copy(update=settings)
    meta = {"recipe": recipe, "config": config.model_dump(mode="json"), "scale": config.scale}
    files.save_model(path, module.generator(config), meta)
    return str(path)


@pytest.mark.data
def test_json_is_one_object_with_the_published_figures(shared_data, capsys):
    assert evaluate("bicubic", "--data", shared_data / "Set5" / "HR", "--protocol", "y", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"model", "protocol", "mean", "images"}
    assert [round(found["mean"][m], 4) for m in ("psnr_y", "ssim_y")] == [28.4207, 0.8104]
    assert [i["name"] for i in found["images"]] == ["baby.png", "bird.png", "butterfly.png", "head.png", "woman.png"]


def test_a_model_folder_and_its_weights_file_measure_the_same(folder, tmp_path, capsys):
    model = save_model(tmp_path / "mine")
    assert evaluate(model, f"{model}/generator.safetensors", "--data", folder, "--json") == 0
    first, second = json.loads(capsys.readouterr().out)["models"]
    assert first["mean"] == second["mean"]
    assert first["model"] == model


def test_a_run_is_found_by_its_name(folder, tmp_path, capsys):
    (tmp_path / "runs" / "r1").mkdir(parents=True)
    (tmp_path / "runs" / "r1" / "run.json").write_text("{}")
    save_model(tmp_path / "runs" / "r1" / "checkpoints" / "step_000000004")
    assert evaluate("r1", "--data", folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "r1"


@pytest.mark.parametrize("verb", [evaluate, compare])
def test_a_model_judged_on_images_it_was_trained_on_is_warned_of(folder, tmp_path, capsys, verb):
    run = tmp_path / "runs" / "r1"
    save_model(run / "model")
    hashes = {"first.png": hashlib.sha256((tmp_path / folder / "a.png").read_bytes()).hexdigest(), "held.png": "0"}
    (run / "files.json").write_text(json.dumps(hashes))
    (run / "run.json").write_text(json.dumps({"run": {"data": "gone"}, "held_out": ["held.png"]}))
    assert verb("r1", "bicubic", "--data", folder, "--perceptual", "none") == 0
    said = capsys.readouterr()
    assert "r1 was trained on 1 of these 2 images (a.png)" in said.err + said.out


@pytest.mark.parametrize("verb", [evaluate, compare])
def test_on_the_folder_that_it_was_trained_on_a_model_is_judged_by_what_was_held_out(tmp_path, capsys, verb):
    noise = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number:02d}.png")
    run = tmp_path / "runs" / "r1"
    save_model(run / "model")
    held = [file.name for file in open_source("photos").held_out]
    data = str(tmp_path / "photos")
    (run / "run.json").write_text(json.dumps({"run": {"data": data, "validation": None}, "held_out": held}))
    assert verb("r1", "bicubic", "--data", "photos", "--perceptual", "none", "--json") == 0
    said = capsys.readouterr()
    found = json.loads(said.out)["models"][0]["images"]
    assert sorted(image["name"] for image in found) == sorted(held)
    assert len(held) == 2
    assert "photos: judged on the 2 images that were held out" in said.err
    assert "was trained on" not in said.out


def test_an_untrained_network_on_the_bicubic_skip_scores_as_bicubic(folder, tmp_path, capsys):
    model = save_model(tmp_path / "new")
    assert evaluate("bicubic", model, "--data", folder, "--protocol", "y", "--json") == 0
    bicubic, new = (m["mean"]["psnr_y"] for m in json.loads(capsys.readouterr().out)["models"])
    assert new == pytest.approx(bicubic, abs=2e-3)


def test_bicubic_follows_the_scale_of_the_model_beside_it(folder, tmp_path, capsys):
    model = save_model(tmp_path / "twice", scale=2)
    assert evaluate("bicubic", model, "--data", folder, "--json") == 0
    assert "crop2" in json.loads(capsys.readouterr().out)["protocol"]


def test_the_table_has_a_row_per_model_and_the_protocol(folder, tmp_path, capsys):
    assert evaluate("bicubic", save_model(tmp_path / "mine"), "--data", folder, "--images") == 0
    table = capsys.readouterr().out
    for expected in ("bicubic", "mine", "a.png", "PSNR-Y", "measured on luma, without a border of 4 px"):
        assert expected in table


def test_a_perceptual_distance_is_a_column_of_each_model_and_part_of_the_protocol(folder, tmp_path, capsys):
    model = save_model(tmp_path / "mine")
    assert evaluate("bicubic", model, "--data", folder, "--perceptual", "swd", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"].endswith("|mean-of-images|swd-laplacian-7x7-x1000")
    bicubic, mine = found["models"]
    assert bicubic["mean"]["swd"] > 0
    assert mine["mean"]["swd"] == pytest.approx(bicubic["mean"]["swd"], rel=0.05), "untrained on the bicubic skip"
    assert "swd" not in bicubic["images"][0], "it is of all images together"
    assert evaluate("bicubic", "--data", folder, "--perceptual", "swd", "--images") == 0
    assert capsys.readouterr().out.lower().count("swd") == 3  # both tables' heads, and the protocol


def test_a_distance_of_images_is_shown_for_each_of_them(folder, tmp_path, capsys):
    torch.manual_seed(0)
    layers = make_layers(cfgs["E"])[:12]
    torch.save(layers.state_dict(), tmp_path / "vgg.pth")
    assert evaluate("bicubic", "--data", folder, "--perceptual", tmp_path / "vgg.pth", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    each = [image["vgg_relu3_1"] for image in found["images"]]
    assert len(each) == 2
    assert found["mean"]["vgg_relu3_1"] == pytest.approx(sum(each) / 2)
    assert found["protocol"].endswith("|vgg19-relu3_1-mse(vgg.pth)")


def test_without_a_distance_nothing_of_it_is_shown(folder, capsys):
    for words in (["--perceptual", "none"], ["--protocol", "y"]):  # luma alone: auto is none
        assert evaluate("bicubic", "--data", folder, "--json", *words) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["protocol"].endswith("|mean-of-images")
        assert {name.partition("_")[0] for name in found["mean"]} == {"psnr", "ssim"}


def test_the_demo_is_measured_on_its_held_out_photographs(capsys):
    assert evaluate("bicubic", "--json") == 0
    names = [i["name"] for i in json.loads(capsys.readouterr().out)["images"]]
    assert names == ["astronaut.png", "chelsea.png", "coffee.png"]


@pytest.mark.parametrize(
    ("argv", "code", "reason"),
    [
        (["nobody"], 4, "no model 'nobody'"),
        (["bicubic", "--protocol", "matlab"], 2, "no protocol 'matlab'"),
        (["bicubic", "--protocol", "y", "--perceptual", "swd"], 2, "protocol y has luma alone, and swd needs RGB"),
        (["bicubic", "--perceptual", "lpisp"], 2, "'lpisp' is none of these, and no file"),
        (["bicubic", "--data", "nowhere"], 3, "no images at 'nowhere'"),
        (["mine", "--scale", "3"], 2, "4 times as large; --scale 3"),
        (["mine", "twice"], 2, "different scales"),
        (["bicubic", "--data", "broken"], 3, "x.png: not an image"),
        (["damaged"], 4, "can't be read as safetensors"),
        (["bicubic", "--data", "pairs:small,large"], 3, "the originals come first: pairs:"),
        (["models:/pixelshuffle"], 4, "name the version, as models:/pixelshuffle@champion or models:/pixelshuffle/1"),
        (["bicubic", "--scale", "0"], 2, "'--scale': it should be greater than or equal to 1 (see sisr evaluate"),
        (["bicubic", "--data"], 2, "'--data' requires an argument (see sisr evaluate --help)"),
    ],
)
def test_a_mistake_is_explained(folder, tmp_path, capsys, argv, code, reason):
    save_model(tmp_path / "mine")
    save_model(tmp_path / "twice", scale=2)
    save_model(tmp_path / "damaged")
    (tmp_path / "damaged" / "generator.safetensors").write_bytes(b"damaged")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_text("not an image")
    for name, side in (("small", 32), ("large", 64)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (side, side)).save(tmp_path / name / "x.png")
    assert evaluate(*argv) == code
    said = capsys.readouterr()
    assert reason in said.err
    assert said.out == ""


@pytest.mark.parametrize(("side", "threads", "expected"), [(64, 4, 4), (64, 9, 4), (800, 4, 2), (800, 1, 1)])
def test_of_large_images_half_as_many_are_measured_at_the_same_time(tmp_path, monkeypatch, side, threads, expected):
    Image.new("RGB", (side, side)).save(tmp_path / "image.png")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert models.side_by_side([], [ImageFile(tmp_path / "image.png", "image.png")]) == expected


def test_a_broken_image_is_named_before_anything_is_measured(folder, capsys):
    whole = Path(folder, "a.png").read_bytes()
    Path(folder, "z.png").write_bytes(whole[: len(whole) // 2])
    assert evaluate("bicubic", "--data", folder) == 3
    said = capsys.readouterr().err
    assert "z.png" in said
    assert "measuring" not in said


@pytest.mark.mlflow
def test_a_model_in_mlflow_measures_as_its_folder(folder, tmp_path, capsys, monkeypatch):
    from mlflow import MlflowClient

    from sisr.tracking.registry import log_generator

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri)
    experiment = client.create_experiment("x", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    local = save_model(tmp_path / "mine")
    logged = log_generator(client, run, tmp_path / "mine", "final")
    assert evaluate(local, f"models:/{logged}", "--data", folder, "--json") == 0
    first, second = json.loads(capsys.readouterr().out)["models"]
    assert first["mean"] == second["mean"]
    assert evaluate("models:/nobody/1", "--data", folder) == 4
    capsys.readouterr()
    assert evaluate("models:/nobody@champion", "--data", folder) == 4
    assert "no models:/nobody@champion" in (said := capsys.readouterr().err)
    assert "models with a champion: none" in said
    client.create_registered_model("enlarger")
    version = client.create_model_version("enlarger", local, run_id=run).version
    client.set_registered_model_alias("enlarger", "champion", version)
    for mistyped in ("models:/enlargr@champion", "models:/enlarger@production"):
        assert evaluate(mistyped, "--data", folder) == 4
        assert "did you mean 'models:/enlarger@champion'?" in " ".join(capsys.readouterr().err.split())
