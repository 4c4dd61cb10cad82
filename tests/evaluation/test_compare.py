"""Comparing models: what "better" means, where models differ most, and that every mistake is explained."""

import json
import math
from html import unescape

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from measured import evaluate_model
from sisr import recipes
from sisr.evaluation import gallery, ranking
from sisr.evaluation.gallery import Gallery, most_varied
from sisr.evaluation.measure import ImageResult, Measurement, Original, evaluate_models
from sisr.evaluation.ranking import Cost
from sisr.inference.probe import multiply_adds
from sisr.metrics.protocol import protocol
from sisr.models import files
from sisr.recipe import Generator, Tiling, as_generator, parameter_count
from sisr.terminal import cli

FREE = Cost(None, None)


def report(model: str, psnr, ssim=None) -> Measurement:
    ssim = [0.8] * len(psnr) if ssim is None else ssim
    values = [{"psnr_y": p, "ssim_y": s} for p, s in zip(psnr, ssim, strict=True)]
    return Measurement(model, "rgb8", [ImageResult(f"{i}", v, 0.1 * (i + 1)) for i, v in enumerate(values)])


def ranked(psnr, reference, ssim=None, reference_ssim=None) -> ranking.Ranked:
    """Return the row of a model beside that of its reference."""
    reports = [report("reference", reference, reference_ssim), report("model", psnr, ssim)]
    return ranking.rank(reports, [FREE, FREE], "reference")[1]


def noise(height: int = 40, width: int = 48, *channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)


@pytest.mark.slow
def test_19_of_20_intervals_hold_the_true_difference_although_images_differ_far_more():
    draws, hits = np.random.default_rng(0), 0
    for _ in range(300):
        difficulty = draws.normal(28, 4, 40)
        reference = difficulty + draws.normal(0, 0.2, 40)
        model = difficulty + draws.normal(0.1, 0.2, 40) + draws.exponential(0.1, 40)
        found = ranked(model, reference).differences["psnr_y"].interval
        hits += found.low <= 0.2 <= found.high
    assert 0.90 <= hits / 300 <= 0.99


def test_a_small_difference_on_every_image_is_better_although_the_means_overlap():
    difficulty = np.random.default_rng(0).normal(28, 4, 20)
    row = ranked(difficulty + np.linspace(0.05, 0.15, 20), difficulty, np.linspace(0.81, 0.82, 20))
    assert row.verdict == "better"
    assert row.differences["psnr_y"].interval.mean == pytest.approx(0.1)


def test_the_order_of_models_turns_better_into_worse():
    better, worse = np.linspace(28, 30, 20), np.linspace(27, 28.5, 20)
    assert ranked(better, worse).differences["psnr_y"].word == "better"
    assert ranked(worse, better).differences["psnr_y"].word == "worse"


def test_differences_that_cancel_are_no_difference_shown():
    assert ranked([28.0, 30.0] * 10, [30.0, 28.0] * 10).verdict == "no difference shown"


def test_metrics_that_disagree_are_said_one_by_one():
    row = ranked([29.0] * 10, [28.0] * 10, ssim=[0.7] * 10, reference_ssim=[0.8] * 10)
    assert row.verdict == "PSNR-Y better, SSIM-Y worse"


def test_less_of_a_perceptual_distance_is_better():
    reports = [report("reference", [28.0] * 10), report("model", [28.0] * 10)]
    for found, distance in zip(reports, (0.4, 0.3), strict=True):
        for image in found.images:
            image.values["lpips"] = distance
    row = ranking.rank(reports, [FREE, FREE], "reference")[1]
    assert row.verdict == "PSNR-Y no difference shown, SSIM-Y no difference shown, LPIPS better"
    assert row.differences["lpips"].interval.mean == pytest.approx(-0.1)


def test_five_images_show_no_difference_however_they_agree_and_the_reader_is_told():
    rows = ranking.rank([report("a", [28.0] * 5), report("b", [29.0] * 5)], [FREE, FREE], "a")
    assert rows[1].verdict == "no difference shown"
    assert "5 images are too few" in ranking.notes(rows)[0]
    six = ranking.rank([report("a", [28.0] * 6), report("b", [29.0] * 6)], [FREE, FREE], "a")
    assert six[1].differences["psnr_y"].word == "better"
    assert ranking.notes(six) == []


def test_an_infinite_psnr_is_counted_and_said_and_leaves_finite_intervals():
    rows = ranking.rank([report("a", [30.0] * 8), report("b", [math.inf] + [30.0] * 7)], [FREE, FREE], "a")
    assert rows[1].differences["psnr_y"].interval.mean == pytest.approx((100 - 30) / 8)
    assert rows[1].to_json()["infinite"] == 1
    assert "PSNR is infinite on 1 of 8 images" in ranking.notes(rows)[0]
    assert rows[1].text("psnr_y") == "inf"


def test_two_models_that_are_both_exact_do_not_differ():
    row = ranked([math.inf] * 8, [math.inf] * 8)
    assert row.verdict == "no difference shown"


def test_spread_is_the_sample_s_standard_deviation_and_time_the_median():
    row = ranked([28.0, 30.0, 32.0], [28.0, 28.0, 28.0])
    assert row.spread("psnr_y") == pytest.approx(2)
    assert row.ms == pytest.approx(200)


def test_models_measured_together_have_the_values_of_each_alone():
    images = [Original(f"{i}", noise(40, 48, 3, seed=i)) for i in range(3)]
    net = recipes.load("pixelshuffle")
    generator = net.generator(net.tiny())
    seen: list = []

    def look(*made) -> None:
        seen.append(made)

    for rule in ("rgb8", "y"):
        together = evaluate_models([("net", generator), ("bicubic", "bicubic")], images, 4, protocol(rule), look)
        alone = [evaluate_model(generator, images, 4, rule), evaluate_model("bicubic", images, 4, rule)]
        for found, expected in zip(together, alone, strict=True):
            assert [i.values for i in found.images] == [i.values for i in expected.images]
    assert [(name, hr.ndim, len(sr)) for name, hr, sr, _ in seen] == [(n, d, 2) for d in (3, 2) for n in "012"]
    assert all(lr.dtype == np.uint8 and lr.shape[:2] == (10, 12) for *_, lr in seen)


def test_the_time_of_each_model_is_its_own():
    class Slow(Generator):
        tiling = Tiling(1, halo=0)

        def forward(self, lr):
            torch.linalg.matrix_power(torch.rand(600, 600), 15)
            return lr

    class Quick(Slow):
        def forward(self, lr):
            return lr

    images = [Original(f"{i}", noise(16, 16, 3)) for i in range(3)]
    slow, quick = evaluate_models([("slow", Slow()), ("quick", Quick())], images, 1, protocol("rgb8"))
    assert all(s.seconds > q.seconds for s, q in zip(slow.images[1:], quick.images[1:], strict=True))


def test_multiply_adds_and_parameters_are_those_worked_out_by_hand():
    layer = as_generator(nn.Conv2d(3, 5, 3, padding=1), Tiling(1, halo=1))
    assert multiply_adds(layer) == 64 * 64 * 3 * 3 * 3 * 5
    assert parameter_count(layer) == 3 * 3 * 3 * 5 + 5


def test_the_patch_lies_where_the_models_differ():
    first = noise(120, 150, 3)
    second = first.copy()
    second[70:80, 100:110] = 255 - second[70:80, 100:110]
    second[10, 10] = 255 - second[10, 10]
    top, left, side, spread = most_varied([first, second], side=32)
    assert top <= 70 <= 80 <= top + side
    assert left <= 100 <= 110 <= left + side
    halves = (first.astype(float) - second)[
        top : top + 32, left : left + 32
    ] / 2  # of two values, the deviation is half
    assert spread == pytest.approx(math.sqrt((halves**2).mean()), rel=1e-4)


def test_the_gallery_keeps_the_images_with_the_largest_differences_first():
    kept = Gallery(2)
    for name, level in (("small", 1), ("large", 40), ("medium", 9)):
        kept.add(name, noise(8, 8), [np.zeros((8, 8), np.uint8), np.full((8, 8), level, np.uint8)], 2)
    assert [place.image for place in kept.places] == ["large", "medium"]


def test_models_that_are_shown_only_do_not_choose_the_place():
    hr, same, other = noise(200, 200), np.zeros((200, 200), np.uint8), np.zeros((200, 200), np.uint8)
    second = same.copy()
    second[150:160, 150:160] = 50
    other[0:50, 0:50] = 255
    kept = Gallery(1)
    kept.add("x", hr, [same, second, other], 2)
    assert kept.places[0].row > 50
    assert len(kept.places[0].regions) == 4


@pytest.mark.parametrize(("height", "width"), [(100, 700), (700, 100), (40, 40), (1000, 900)])
def test_a_region_holds_its_patch_wherever_that_lies(height, width):
    hr, first = noise(height, width, 3), np.zeros((height, width, 3), np.uint8)
    for corner in ((slice(0, 10), slice(0, 10)), (slice(-10, None), slice(-10, None))):
        second = first.copy()
        second[corner] = 200
        kept = Gallery()
        lr = noise(height // 4, width // 4, 3)
        kept.add("x", hr, [first, second], 2, lr)
        place = kept.places[0]
        repeated = lr.repeat(4, axis=0).repeat(4, axis=1)[place.row :, place.column :][: place.side, : place.side]
        assert place.lr is not None
        assert np.array_equal(place.patch(place.lr), repeated)
        expected = hr[place.row : place.row + place.side, place.column : place.column + place.side]
        assert np.array_equal(place.patch(place.regions[0]), expected)
        assert place.regions[0].shape[:2] == (min(height, gallery.REGION), min(width, gallery.REGION))
        assert place.patch(place.regions[2]).max() == 200


def test_an_error_map_is_black_without_error_and_brightest_from_the_stated_error_on():
    hr = np.full((1, 3), 100, np.uint8)
    shown = gallery.error_map(np.array([[100, 100 - gallery.BRIGHTEST, 255]], np.uint8), hr)
    assert shown[0].tolist() == [list(gallery.COLOURS[0]), list(gallery.COLOURS[-1]), list(gallery.COLOURS[-1])]
    assert np.diff(gallery.error_map(np.arange(49, dtype=np.uint8)[None], hr[:, :1] * 0).sum(axis=2)[0]).min() >= 0


@pytest.fixture
def setting(tmp_path):
    """Eight images in `images`, and two models that differ in `first` and `second`, and one of scale 2 in `twice`."""
    (tmp_path / "images").mkdir()
    for i in range(8):
        Image.fromarray(noise(64, 72, 3, seed=i)).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "one").mkdir()
    Image.fromarray(noise(64, 72, 3)).save(tmp_path / "one" / "x.png")
    for name, scale, seed in (("first", 4, 1), ("second", 4, 2), ("same", 4, 1), ("twice", 2, 1)):
        save_model(tmp_path / name, scale, seed)


def save_model(folder, scale: int = 4, seed: int = 0) -> None:
    module = recipes.load("pixelshuffle")
    config = module.tiny().model_copy(update={"scale": scale})
    generator = module.generator(config)
    torch.manual_seed(seed)
    for parameter in generator.parameters():
        nn.init.normal_(parameter, std=0.1)
    meta = {"recipe": "pixelshuffle", "config": config.model_dump(mode="json"), "scale": scale}
    files.save_model(folder, generator, meta)


def compare(*argv: object, perceptual: str = "none") -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["compare", *map(str, argv), "--perceptual", perceptual])
    return int(end.value.code or 0)


@pytest.mark.slow
def test_the_command_writes_page_numbers_and_pictures_and_says_where(setting, tmp_path, capsys):
    assert compare("first", "second", "--data", "images", "--no-log", perceptual="auto") == 0
    said = capsys.readouterr().out
    for expected in (
        "first",
        "second",
        "bicubic",
        "reference",
        "measured on luma, without a border of 4 px",
        "comparison.html",
    ):
        assert expected in said
    (folder,) = (tmp_path / "runs").iterdir()
    assert sorted(p.name for p in folder.rglob("*")) == [
        "1.png", "2.png", "3.png", "comparison.html", "comparison.json", "places",
    ]  # fmt: skip
    content = json.loads((folder / "comparison.json").read_text())
    assert [m["model"] for m in content["models"]] == ["first", "second", "bicubic"]
    assert len(content["models"][1]["images"]) == 8
    with Image.open(folder / "places" / "1.png") as sheet:
        assert sheet.width == 4 + 4 * (2 * 64 + 4)


def test_json_says_how_each_model_differs_from_the_one_asked_for(setting, capsys):
    assert compare("first", "second", "--against", "bicubic", "--data", "images", "--no-log", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    first, second, bicubic = content["models"]
    assert bicubic["verdict"] == "reference"
    for model in (first, second):
        found = model["difference"]["psnr_y"]
        assert found["mean"] == pytest.approx(model["mean"]["psnr_y"] - bicubic["mean"]["psnr_y"])
        assert found["low"] <= found["mean"] <= found["high"]
        assert model["multiply_adds"] > 0


def test_one_model_can_be_compared_with_bicubic(setting, capsys):
    assert compare("first", "--against", "bicubic", "--data", "images", "--no-log", "--json") == 0
    assert [m["model"] for m in json.loads(capsys.readouterr().out)["models"]] == ["first", "bicubic"]


@pytest.mark.slow
def test_a_distance_of_all_images_together_and_the_score_have_a_difference_too(setting, capsys):
    assert compare("first", "bicubic", "--data", "images", "--no-log", "--json", perceptual="swd") == 0
    content = json.loads(capsys.readouterr().out)
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "first", "bicubic", "--data", "images", "--perceptual", "swd", "--json"])
    evaluated = json.loads(capsys.readouterr().out)["models"]
    assert [m["mean"]["swd"] for m in content["models"]] == pytest.approx([m["mean"]["swd"] for m in evaluated])
    assert set(content["models"][1]["difference"]) == {"psnr_y", "ssim_y", "swd", "score"}
    assert content["models"][1]["mean"]["score"] == 0, "bicubic's own"


def test_the_luma_protocol_is_compared_too(setting, capsys):
    assert compare("first", "bicubic", "--data", "images", "--protocol", "y", "--no-log") == 0
    assert "measured on 8-bit luma alone" in capsys.readouterr().out


def test_the_same_comparison_has_the_same_folder_and_another_has_another(setting, tmp_path):
    for models_ in (("first", "second"), ("first", "second"), ("second", "first")):
        assert compare(*models_, "--data", "images", "--no-log") == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_equal_weights_under_two_names_are_pointed_out(setting, capsys):
    assert compare("first", "same", "--data", "images", "--no-log") == 0
    said = capsys.readouterr().out
    assert "same has the same weights as first" in said
    assert "no difference shown" in said


def test_the_page_asks_nobody_for_anything_and_names_are_only_text(setting, tmp_path):
    (tmp_path / "<script>alert(1)</script>").mkdir(parents=True)
    evil = tmp_path / "<b>&evil"
    (tmp_path / "first").rename(evil)
    (tmp_path / "images" / "0.png").rename(tmp_path / "images" / "<i>0.png")
    assert compare(evil.name, "second", "--data", "images", "--no-log") == 0
    text = next((tmp_path / "runs").rglob("comparison.html")).read_text()
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;b&gt;&amp;evil" in text
    assert not [word for word in ("http:", "https:", "src=", "@import", "<link") if word in text]
    assert "default-src 'none'" in unescape(text)


@pytest.mark.parametrize(
    ("argv", "code", "reason"),
    [
        ([], 2, "needs two models or more, got none"),
        (["first"], 2, "got only first: name another, such as bicubic"),
        (["bicubic", "--against", "bicubic"], 2, "got only bicubic"),
        (["first", "second", "first"], 2, "first: named twice"),
        (["first", "twice"], 2, "different scales can't be compared on the same LR: first 4x, twice 2x"),
        (["first", "second", "--against", "secnd"], 2, "none of the models compared; did you mean 'second'?"),
        (["first", "second", "--data", "one"], 3, "is one image: a comparison needs two or more"),
        (["first", "second", "--top", "3"], 2, "name it with --experiment"),
        (["first", "nobody"], 4, "no model 'nobody'"),
        (["--experiment", "none", "--mode", "most"], 2, "'most' is not one of 'max', 'min'"),
    ],
)
def test_a_mistake_is_explained(setting, tmp_path, capsys, argv, code, reason):
    assert compare("--data", "images", *argv) == code
    said = capsys.readouterr()
    assert reason in said.err
    assert said.out == ""
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Return the folder of four runs that MLflow knows: three of them finished, with models."""
    from sisr.tracking import courier
    from sisr.tracking.outbox import FINAL, Outbox

    runs = tmp_path_factory.mktemp("experiment") / "runs"
    finished = {"poor": 27.0, "good": 29.0, "best": 30.0, "left": 31.0}
    for seed, (name, value) in enumerate(finished.items()):
        save_model(runs / name / "model", seed=seed)
        (runs / name / "run.json").write_text("{}")
        with Outbox(runs / name) as outbox:
            here = {"sisr.folder": str(runs / name)} if name == "good" else {}
            outbox.tags({"sisr.state": "stopped" if name == "left" else "finished", **here})
            outbox.status("RUNNING")
            if name == "poor":  # as version 0.1.0 recorded it
                outbox.metrics(1, {"final/psnr_y": value})
            else:
                outbox.tags({FINAL: {"psnr_y": value}})
            outbox.model("model")
            outbox.status("FINISHED")
        assert courier.deliver(runs / name, experiment="tried").delivered
    return runs


@pytest.mark.mlflow
def test_the_best_finished_runs_of_an_experiment_are_found_and_the_comparison_is_logged_beside_them(
    setting, experiment, capsys, forked_courier
):
    from mlflow import MlflowClient

    from sisr.tracking.address import default_uri

    words = ["--experiment", "tried", "--top", "2", "--runs", experiment, "--data", "images", "--json"]
    for _ in range(2):  # the same comparison again is the same MLflow run
        assert compare(*words) == 0
        content = json.loads(capsys.readouterr().out)
        assert [m["model"] for m in content["models"]] == ["best", "good", "bicubic"]
        assert content["logged"]
    client = MlflowClient(default_uri(experiment))
    place = client.get_experiment_by_name("tried-comparisons")
    (run,) = client.search_runs([place.experiment_id], "tags.`sisr.kind` = 'compare'")
    assert run.info.status == "FINISHED"
    assert json.loads(run.data.tags["sisr.verdicts"])["best"] == "reference"
    assert run.data.metrics == {}, "MLflow would draw a chart of each"
    shown = json.loads(run.data.tags["1_best"])["PSNR-Y (dB)"]
    assert float(shown.split()[0]) == pytest.approx(content["models"][0]["mean"]["psnr_y"], abs=0.005)
    files = {f.path for f in client.list_artifacts(run.info.run_id)}
    assert {"comparison.html", "comparison.json", "images"} <= files
    assert len([f for f in client.list_artifacts(run.info.run_id, "images") if f.path.endswith(".png")]) == 3


@pytest.mark.mlflow
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--experiment", "tired"], "no experiment 'tired'; did you mean 'tried'?"),
        (["--experiment", "tried", "--metric", "final/psnr"], "has a finite metric 'final/psnr'; did you mean"),
    ],
)
def test_an_experiment_that_holds_nothing_to_compare_is_explained(setting, experiment, capsys, words, reason):
    assert compare(*words, "--runs", experiment, "--data", "images") == 2
    assert reason in capsys.readouterr().err


@pytest.mark.mlflow
def test_the_smallest_value_is_best_where_asked(experiment):
    from sisr.tracking.selection import best_runs

    found = best_runs("tried", "final/psnr_y", "min", 5, runs=experiment)
    assert [(run.name, run.value) for run in found] == [("poor", 27.0), ("good", 29.0), ("best", 30.0)]
    assert found[1].model == str(experiment / "good")
    assert found[0].model.startswith("runs:/")
