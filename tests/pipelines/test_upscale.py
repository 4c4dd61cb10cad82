"""`sisr upscale` as a person uses it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from sisr import recipes
from sisr.data.bicubic import resize
from sisr.models.files import save_model
from sisr.terminal import cli


def upscale(model: object, *argv: object) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["upscale", *map(str, argv), "--model", str(model)])
    return int(end.value.code or 0)


@pytest.fixture
def photo(tmp_path):
    """A small colour image in the current folder, of middle greys that bicubic need not clip."""
    pixels = np.random.default_rng(0).integers(60, 196, (12, 17, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return pixels


@pytest.fixture
def model(tmp_path):
    """The folder of a small random model, 4x."""
    torch.manual_seed(0)
    module = recipes.load("pixelshuffle")
    config = module.tiny()
    generator = module.generator(config)
    torch.nn.init.normal_(generator.get_parameter("last.weight"), std=0.1)
    meta = {"recipe": "pixelshuffle", "config": config.model_dump(mode="json"), "scale": config.scale}
    save_model(tmp_path / "model", generator, meta)
    return tmp_path / "model"


def read(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_result_lies_beside_the_photo(photo, tmp_path):
    assert upscale("bicubic", "photo.png") == 0
    # Float bicubic rounds once, MATLAB's after each axis.
    assert np.abs(read("photo_x4.png").astype(int) - resize(photo, 4)).max() <= 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photo.png", "photo_x4.png"]


def test_a_saved_model_upscales_in_tiles_as_in_one_piece(photo, model):
    assert upscale(model, "photo.png", "--tile", 0, "-o", "whole.png") == 0
    assert upscale(model, "photo.png", "--tile", 5, "-o", "tiles.png") == 0
    whole = read("whole.png")
    assert whole.shape == (48, 68, 3)
    assert np.abs(whole.astype(int) - read("tiles.png")).max() <= 1
    assert np.abs(whole.astype(int) - resize(photo, 4)).max() > 5  # the model did something


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_png_keeps_the_channels(mode):
    Image.effect_noise((9, 8), 50).convert(mode).save("in.png")
    assert upscale("bicubic", "in.png", "--scale", 2, "-o", "out.png") == 0
    with Image.open("out.png") as result:
        assert (result.mode, result.size) == (mode, (18, 16))


def test_a_photo_that_lies_on_its_side_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10), "red").save("phone.jpg", exif=exif)
    assert upscale("bicubic", "phone.jpg", "--scale", 2) == 0
    with Image.open("phone_x2.png") as result:
        assert result.size == (20, 40)
        assert result.getexif().get(0x0112, 1) == 1


def test_sixteen_bits_stay_in_png():
    ramp = np.arange(0, 65536, 800, dtype=np.uint16)[None].repeat(9, axis=0)
    Image.fromarray(ramp).save("deep.png")
    assert upscale("bicubic", "deep.png", "--scale", 2) == 0
    with Image.open("deep_x2.png") as result:
        assert result.mode == "I;16"
        made = np.asarray(result).astype(int)
    assert len(np.unique(made[8, 8:-8])) > 140
    assert np.abs(made[8] - resize(ramp.astype(float), 2).clip(0, 65535)[8]).max() <= 1


def test_sixteen_bits_are_reduced_with_a_note(capsys):
    ramp = np.linspace(0, 65535, 64 * 8).reshape(8, 64).astype(np.uint16)
    Image.fromarray(ramp).save("deep.png")
    assert upscale("bicubic", "deep.png", "--scale", 2, "-o", "deep.webp", "--quality", 100) == 0
    assert "16 bits reduced to 8" in capsys.readouterr().out
    assert len(np.unique(read("deep.webp"))) > 200


def test_a_colour_profile_is_kept(photo):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(photo).save("tagged.png", icc_profile=profile)
    assert upscale("bicubic", "tagged.png") == 0
    with Image.open("tagged_x4.png") as result:
        assert result.info["icc_profile"] == profile


def test_a_profile_of_other_channels_is_dropped(photo):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(photo).save("odd.png", icc_profile=profile)
    assert upscale("bicubic", "odd.png") == 0
    with Image.open("odd_x4.png") as result:
        assert "icc_profile" not in result.info


@pytest.mark.parametrize(
    ("name", "kind"), [("x.jpg", "JPEG"), ("x.webp", "WEBP"), ("x.PNG", "PNG"), ("x.avif", "AVIF")]
)
def test_the_outputs_name_chooses_the_format(photo, name, kind):
    assert upscale("bicubic", "photo.png", "--output", name) == 0
    with Image.open(name) as result:
        assert (result.format, result.size) == (kind, (68, 48))


def test_a_folder_is_upscaled_into_a_folder_of_the_same_shape(photo, tmp_path, capsys):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/a.png", "in/deep/b.bmp"):
        Image.fromarray(photo).save(name)
    assert upscale("bicubic", "in", "--format", "webp", "--scale", 2, "--json") == 0
    assert sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "in_x2").rglob("*.*")) == [
        "in_x2/a.webp",
        "in_x2/deep/b.webp",
    ]
    printed = json.loads(capsys.readouterr().out)
    assert [(i["width"], i["height"]) for i in printed["images"]] == [(34, 24)] * 2


def test_a_bad_file_in_a_folder_is_named_and_the_others_are_done(photo, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(photo).save("in/good.png")
    (tmp_path / "in" / "bad.jpg").write_text("not a photo")
    assert upscale("bicubic", "in", "-o", "out") == 3
    assert "1 of 2 images could not be upscaled" in (said := capsys.readouterr().err)
    assert "bad.jpg: not an image" in said
    assert (tmp_path / "out" / "good.png").is_file()


def test_compare_puts_pixels_bicubic_and_model_side_by_side(photo, model, capsys):
    assert upscale(model, "photo.png", "--compare") == 0
    assert "photo_x4_compare.png" in capsys.readouterr().out
    sheet = read("photo_x4_compare.png")
    height = 4 * len(photo)
    names, (nearest, smooth, made) = sheet[:-height], np.split(sheet[-height:], 3, axis=1)
    assert all((column < 128).any() for column in np.split(names, 3, axis=1))
    assert np.array_equal(nearest, photo.repeat(4, axis=0).repeat(4, axis=1))
    assert np.array_equal(smooth, resize(photo, 4))
    assert np.array_equal(made, read("photo_x4.png"))


def test_nothing_is_overwritten_unless_asked(photo, tmp_path, capsys):
    (tmp_path / "photo_x4.png").write_text("precious")
    assert upscale("bicubic", "photo.png") == 2
    assert "photo_x4.png exists already; --overwrite replaces it" in capsys.readouterr().err
    assert (tmp_path / "photo_x4.png").read_text() == "precious"
    assert upscale("bicubic", "photo.png", "--overwrite") == 0
    assert read("photo_x4.png").shape == (48, 68, 3)


@pytest.mark.parametrize(
    ("argv", "code", "reason"),
    [
        (["bicubic", "nowhere.png"], 3, "nowhere.png is not there"),
        (["bicubic", "photo.png", "-o", "photo.png", "--overwrite"], 2, "never overwritten"),
        (["bicubic", "photo.png", "-o", "x.gif"], 2, "can't write '.gif'; name .png"),
        (["bicubic", "photo.png", "--format", "tiff"], 2, "choose png, jpg, webp or avif"),
        (["bicubic", "photo.png", "-o", "x.png", "--format", "webp"], 2, "contradict"),
        (["bicubic", ".", "-o", "x.png"], 2, "name a folder"),
        (["bicubic", ".", "-o", "results"], 2, "lies in the input folder"),
        (["modle", "photo.png"], 4, "no model 'modle'"),
        (["model", "photo.png", "--scale", "2"], 2, "4 times as large; --scale 2 is not possible"),
        (["bicubic", "clear.png", "-o", "x.jpg"], 3, "JPEG holds no transparency"),
        (["bicubic", "photo.png", "-o", "x.webp", "--scale", "2000"], 3, "at most 16383 px"),
        (["bicubic", "photo.png", "--device", "abacus"], 2, "abacus can't be used: there is no such kind of device"),
        (["bicubic", "photo.png", "--device", "cuda:99"], 2, "--device cuda:99 can't be used"),
    ],
)
def test_a_mistake_is_explained_before_anything_is_written(photo, model, tmp_path, capsys, argv, code, reason):
    Image.new("RGBA", (8, 8), (9, 9, 9, 99)).save("clear.png")
    before = sorted(tmp_path.rglob("*"))
    assert upscale(*argv) == code
    said = capsys.readouterr().err
    assert reason in said
    assert "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before


def test_two_inputs_never_share_an_output(photo, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("in/a.png", "in/a.bmp"):
        Image.fromarray(photo).save(name)
    assert upscale("bicubic", "in") == 2
    assert "would both be written to" in capsys.readouterr().err


@pytest.mark.slow
def test_memory_grows_with_the_input_and_not_with_the_output(tmp_path):
    """Four times the picture may cost its decoding, about 10 bytes a pixel, but no copy of the 16-fold output."""
    program = (
        "import resource, sys\n"
        "from sisr.terminal import cli\n"
        "try:\n"
        "    cli.main(['upscale', sys.argv[1], '--model', 'bicubic', '--tile', '128', '--json'])\n"
        "finally:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
    )
    peaks = []
    for height in (500, 2000):
        name = f"{height}.png"
        Image.linear_gradient("L").resize((500, height)).convert("RGB").save(name)
        done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, check=True)
        peaks.append(int(done.stderr.split()[-1]) * 1024)
    grown = 750_000  # px of input; 36 MB of 8-bit output, 144 MB in floating point
    assert peaks[1] - peaks[0] < 30 * grown


def test_metadata_is_kept_unless_stripped():
    exif = Image.Exif()
    exif[0x010F] = "Nikon"
    Image.new("RGB", (8, 8), "red").save("photo.jpg", exif=exif, dpi=(300, 300), comment=b"a dot")
    for extra, kept in (((), True), (("--strip",), False)):
        assert upscale("bicubic", "photo.jpg", "-o", "out.jpg", "--overwrite", *extra) == 0
        with Image.open("out.jpg") as result:
            assert (result.getexif().get(0x010F) == "Nikon") == kept
            assert (result.info.get("comment") == b"a dot") == kept
            assert (result.info.get("dpi") == (300, 300)) == kept


def test_links_out_of_the_folder_are_followed_where_asked_for(photo, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/linked.png").symlink_to(tmp_path / "photo.png")
    assert upscale("bicubic", "in", "-o", "out") == 3
    assert "it leaves the folder" in capsys.readouterr().err
    assert upscale("bicubic", "in", "-o", "out", "--follow-links") == 0
    assert read("out/linked.png").shape == (48, 68, 3)


def test_a_model_s_result_is_brought_to_another_scale(photo, model):
    assert upscale(model, "photo.png", "-o", "own.png") == 0
    assert upscale(model, "photo.png", "-o", "two.png", "--output-scale", 2) == 0
    expected = resize(read("own.png").astype(float), 0.5).clip(0, 255)  # in 8 bits it would clip between the axes, too
    assert np.abs(read("two.png") - expected).max() <= 2


def test_the_mean_of_all_turns_is_another_result_of_the_same_size(photo, model):
    assert upscale(model, "photo.png", "-o", "one.png") == 0
    assert upscale(model, "photo.png", "-o", "mean.png", "--self-ensemble") == 0
    one, mean = read("one.png"), read("mean.png")
    assert one.shape == mean.shape
    assert mean.std() < one.std(), "noise averages out"


def test_the_precision_is_said_and_one_that_is_not_there_refused(photo, model, capsys):
    assert upscale(model, "photo.png", "--precision", "bf16", "--json") == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "bf16"
    assert upscale(model, "photo.png", "--precision", "fp16", "--overwrite", "--device", "cpu") == 2
    assert "on a CPU use bf16 or fp32" in capsys.readouterr().err


def test_names_can_neither_steer_the_terminal_nor_begin_lines(photo, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(photo).save("in/a\x1b[31m\nb.png")
    (tmp_path / "in/c\nd.png").write_bytes(b"")
    assert upscale("bicubic", "in", "--scale", "2") == 3
    said = capsys.readouterr()
    assert "a\\x1b[31m\\nb.png: " in said.out
    assert "c\\nd.png: empty file" in said.err
    assert "\x1b[31m" not in said.out + said.err
