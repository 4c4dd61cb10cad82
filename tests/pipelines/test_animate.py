"""`sisr animate` as a person uses it: animations are read back and compared with the pictures they came from."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sisr import recipes
from sisr.disk.atomic import write_json
from sisr.disk.journal import rows as journal_rows
from sisr.disk.run_folder import RunFolder
from sisr.evaluation import samples
from sisr.terminal import cli
from sisr.tracking.outbox import Outbox
from sisr.training.local import train_here
from sisr.training.run import Options, Run
from sisr.training.validate import COLUMNS, HEADER

CELL = (60, 52)  # px
HAS_FFMPEG = importlib.util.find_spec("imageio_ffmpeg") is not None


def animate(*argv: object) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["animate", *map(str, argv)])
    return int(end.value.code or 0)


def animate_json(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    assert animate(*argv, "--json") == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def frames(path: Path | str) -> tuple[list[NDArray[np.uint8]], list[int]]:
    """The frames of an animation, as RGB, and how long each is shown in ms."""
    with Image.open(path) as image:
        pixels, durations = [], []
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            pixels.append(np.array(image.convert("RGB")))
            durations.append(int(image.info["duration"]))
        return pixels, durations


def noise(seed: int, width: int, height: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def draw_sample(step: int, rows: int) -> Image.Image:
    """A sample picture of noise, in which only the third column differs from step to step."""
    width, height = CELL
    sheet = Image.new("RGB", (width * len(COLUMNS), HEADER + rows * height), "white")
    for row in range(rows):
        for column in range(len(COLUMNS)):
            seed = 100 * row + 10 * column + (1000 + step if column == 2 else 0)
            sheet.paste(noise(seed, width, height), (column * width, HEADER + row * height))
    return sheet


def add_sample(folder: Path, step: int, rows: int = 3) -> Path:
    path = folder / "samples" / "val" / f"step_{step:09d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_sample(step, rows).save(path)
    return path


def make_run(name: str, steps: list[int], rows: int = 3) -> Path:
    """A run's folder in ./runs with a sample picture and metrics for each step."""
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    record = {"run": {"options": {"sample_rows": rows}}, "data": {"held_out": 16}}
    (folder / "run.json").write_text(json.dumps(record))
    with Outbox(folder) as outbox:
        outbox.status("FINISHED")
    found = RunFolder(folder)
    found.write_status(state="finished", baseline={"psnr_y": 25.0, "ssim_y": 0.7})
    for step in steps:
        found.add_evaluation(step, {"val/psnr_y": 20 + step / 1000, "val/ssim_y": 0.5})
        add_sample(folder, step, rows)
    return folder


@pytest.fixture
def drawn() -> Path:
    """A run with five pictures of three rows."""
    return make_run("drawn", [0, 1000, 2000, 3000, 4000])


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was really trained, for six steps, with pictures of steps 0, 2, 4 and 6."""
    folder = RunFolder(tmp_path_factory.mktemp("trained"))
    config = recipes.load("pixelshuffle").tiny().model_dump(mode="json") | {"steps": 6}
    options = Options(precision="fp32", evaluate_every=2, log_every=2, threads=1, validation_side=48, sample_rows=2)
    run = Run(name="trained", recipe="pixelshuffle", config=config, options=options, data="demo")
    write_json(folder.path / "run.json", {"run": run.model_dump(), "data": {"held_out": 3}})
    with Outbox(folder.path) as outbox:
        train_here(run, folder, outbox)
    return folder.path


@pytest.fixture
def trained(trained_once: Path) -> Path:
    shutil.copytree(trained_once, "runs/trained")
    return Path("runs/trained")


def logged(folder: Path) -> list[dict[str, Any]]:
    return [row for row, _ in journal_rows(folder / "outbox.jsonl") if row and row["op"] == "artifact"]


def test_a_trained_run_becomes_a_webp_of_its_pictures_which_is_logged(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = animate_json(capsys, "trained")
    assert result["output"] == "runs/trained/evolution.webp"
    assert result["steps"] == [0, 2, 4, 6]
    pixels, durations = frames(trained / "evolution.webp")
    assert durations == [250, 250, 250, 2000]
    assert result["seconds"] == 2.75
    for step, frame in zip(result["steps"], pixels, strict=True):
        with Image.open(trained / "samples" / "val" / f"step_{step:09d}.png") as picture:
            assert picture.size == (4 * 48, HEADER + 2 * 48)
            assert np.array_equal(frame[: picture.height, : picture.width], np.asarray(picture)), step
    assert result["bytes"] == (trained / "evolution.webp").stat().st_size
    assert result["logged"]
    assert [row["path"] for row in logged(trained)] == ["evolution.webp"]


def test_gif_changes_only_where_the_pictures_do(drawn: Path) -> None:
    assert animate("drawn", "--output", "out.gif", "--frames-per-second", 8, "--hold-last", 1) == 0
    pixels, durations = frames("out.gif")
    assert durations == [120, 120, 120, 120, 1000]  # GIF counts in 10 ms
    rows = slice(HEADER, HEADER + 3 * CELL[1])
    for column, changes in enumerate([False, False, True, False]):
        columns = slice(column * CELL[0], (column + 1) * CELL[0])
        assert np.array_equal(pixels[0][rows, columns], pixels[4][rows, columns]) != changes


def test_gif_is_near_the_pictures_in_256_colours(trained: Path) -> None:
    assert animate("trained", "--output", "out.gif") == 0
    pixels, _ = frames("out.gif")
    with Image.open(trained / "samples" / "val" / "step_000000006.png") as picture:
        wanted = np.asarray(picture).astype(float)
    error = pixels[3][: wanted.shape[0], : wanted.shape[1]] - wanted
    assert np.abs(error.mean()) < 2
    assert np.sqrt((error**2).mean()) < 16


def test_the_caption_changes_with_the_step(drawn: Path) -> None:
    assert animate("drawn") == 0
    captions = [frame[HEADER + 3 * CELL[1] :] for frame in frames(drawn / "evolution.webp")[0]]
    assert all(caption.min() < 100 for caption in captions)  # there is ink
    assert len({caption.tobytes() for caption in captions}) == 5


def test_a_caption_has_step_and_metrics(drawn: Path) -> None:
    RunFolder(drawn).add_evaluation(4000, {"val/psnr_y": 27.123, "val/ssim_y": 0.5})  # resumed: measured again
    add_sample(drawn, 5000)
    found = samples.read_samples(drawn, dict(RunFolder(drawn).evaluations()), RunFolder(drawn).status()["baseline"])
    assert found[4].caption == ("step 4,000", "PSNR-Y 27.12 dB", "SSIM-Y 0.5000", "bicubic 25.00 dB, 0.7000")
    assert found[5].caption[:3] == ("step 5,000", "PSNR-Y ?", "SSIM-Y ?")


def test_rows_are_shown_as_asked_for(drawn: Path) -> None:
    assert animate("drawn", "--rows", "3,1", "-o", "out.webp") == 0
    frame = frames("out.webp")[0][1]
    sample = np.asarray(draw_sample(1000, 3))
    top, middle, bottom = (HEADER + i * CELL[1] for i in range(3))
    assert np.array_equal(frame[top:middle], sample[bottom : bottom + CELL[1]])
    assert np.array_equal(frame[middle:bottom], sample[top:middle])
    assert frame[bottom:].mean() > 200  # words on white, no third row


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        ("::", [0, 1000, 2000, 3000, 4000]),
        (":3000", [0, 1000, 2000, 3000]),
        ("1000:", [1000, 2000, 3000, 4000]),
        ("::2000", [0, 2000, 4000]),
        ("::1500", [0, 2000, 4000]),
        ("500:3500:2000", [1000, 3000]),
        ("::3000", [0, 3000, 4000]),
    ],
)
def test_steps_are_limited_and_spaced(
    drawn: Path, capsys: pytest.CaptureFixture[str], steps: str, shown: list[int]
) -> None:
    result = animate_json(capsys, "drawn", "--steps", steps, "-o", "out.webp")
    assert result["steps"] == shown
    assert len(frames("out.webp")[0]) == len(shown)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_limit_is_kept_and_what_it_took_is_said(drawn: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    free = animate_json(capsys, "drawn", "-o", f"free{suffix}")
    assert free["notes"] == []
    result = animate_json(capsys, "drawn", "-o", f"small{suffix}", "--max-mb", 0.06)
    assert Path(f"small{suffix}").stat().st_size == result["bytes"] <= 60_000 < free["bytes"]
    pixels, _ = frames(f"small{suffix}")
    assert len(pixels) == len(result["steps"])
    assert pixels[0].shape[:2] == (result["height"], result["width"])
    if result["width"] < free["width"]:
        assert any(note.startswith("pictures at ") for note in result["notes"])
    if len(result["steps"]) < 5:
        assert f"{len(result['steps'])} of 5 frames" in result["notes"]
    assert {result["steps"][0], result["steps"][-1]} == {0, 4000}
    assert result["notes"]


def test_many_frames_are_thinned_before_any_is_made_smaller(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("long", list(range(0, 4000, 100)), rows=1)
    free = animate_json(capsys, "long", "-o", "free.gif")
    assert len(free["steps"]) == 40
    result = animate_json(capsys, "long", "-o", "small.gif", "--max-mb", free["bytes"] * 0.8e-6)
    assert 24 <= len(result["steps"]) < 40
    assert result["width"] == free["width"]
    assert result["notes"] == [f"{len(result['steps'])} of 40 frames"]
    assert (result["steps"][0], result["steps"][-1]) == (0, 3900)


def test_a_limit_that_nothing_fits_is_an_error(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert animate("drawn", "--max-mb", 0.001) == 2
    assert "--max-mb 0.001: even 2 frames of " in capsys.readouterr().err
    assert not (drawn / "evolution.webp").exists()


def test_pictures_of_more_rows_than_now_are_shown_with_the_rows_all_have(
    drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_sample(drawn, 1000, rows=2)  # by an attempt with fewer sample_rows
    result = animate_json(capsys, "drawn", "-o", "out.webp")
    assert result["rows"] == [1, 2]
    assert len(result["steps"]) == 5
    assert result["notes"] == []


def test_pictures_with_other_cells_are_left_out(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise(0, 64, HEADER + 30).save(drawn / "samples" / "val" / "step_000001000.png")
    result = animate_json(capsys, "drawn", "-o", "out.webp")
    assert result["steps"] == [0, 2000, 3000, 4000]
    assert result["notes"] == ["left out 1 pictures whose cells have another size than the newest's"]


@pytest.mark.slow
def test_a_run_in_training_is_animated_but_its_outbox_is_left_alone(
    drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunFolder(drawn).lock(), Outbox(drawn) as outbox:
        outbox.flush()
        before = (drawn / "outbox.jsonl").read_bytes()
        result = animate_json(capsys, "drawn")
        assert (drawn / "outbox.jsonl").read_bytes() == before
    assert not result["logged"]
    assert "run drawn is held by process " in result["not_logged_because"]
    assert len(frames(drawn / "evolution.webp")[0]) == 5


@pytest.mark.parametrize("words", [["--no-log"], ["-o", "elsewhere.webp"]])
def test_nothing_is_written_to_the_run_without_logging(drawn: Path, words: list[str]) -> None:
    before = (drawn / "outbox.jsonl").read_bytes()
    assert animate("drawn", *words) == 0
    assert (drawn / "outbox.jsonl").read_bytes() == before


def test_a_run_may_be_named_by_its_folder_and_the_output_lie_in_a_new_one(drawn: Path) -> None:
    assert animate(drawn.resolve(), "--runs", "nowhere", "-o", "new/folder/out.webp") == 0
    assert len(frames("new/folder/out.webp")[0]) == 5


def test_an_unwritable_output_is_named_and_leaves_nothing(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder.webp").mkdir()
    Path("file").write_text("")
    for output in ("folder.webp", "file/out.webp"):
        assert animate("drawn", "-o", output) == 73
        assert f"{output} can't be written: " in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["file", "folder.webp", "runs"]


def test_an_unknown_run_is_an_error_that_suggests(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert animate("drwan") == 2
    assert "no run 'drwan' in runs, and no folder of that name; did you mean 'drawn'?" in capsys.readouterr().err


def test_a_run_without_pictures_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("young", [])
    assert animate("young") == 3
    assert "run young has no sample pictures in runs/young/samples/val" in capsys.readouterr().err


def test_one_picture_is_not_enough(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("young", [0])
    assert animate("young") == 3
    assert "needs at least two pictures, found 1 of 1 (step 0): train on" in capsys.readouterr().err
    assert [path.name for path in Path("runs/young").glob("*evolution*")] == []


@pytest.mark.parametrize(
    ("damage", "message"), [(b"not a picture", "is no picture"), (None, "can't be read (")], ids=["text", "torn"]
)
def test_a_damaged_picture_is_named(
    drawn: Path, capsys: pytest.CaptureFixture[str], damage: bytes | None, message: str
) -> None:
    path = drawn / "samples" / "val" / "step_000002000.png"
    path.write_bytes(damage or path.read_bytes()[:5000])
    assert animate("drawn") == 3
    said = capsys.readouterr().err
    assert str(path) in said
    assert message in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "out.avi"], "can't write '.avi'; the name must end with .webp, .gif, .mp4"),
        (["--rows", "4"], "--rows 4: must be different numbers from 1 to 3"),
        (["--rows", "0"], "must be different numbers from 1 to 3"),
        (["--rows", "1,1"], "must be different numbers from 1 to 3"),
        (["--rows", "all"], "--rows all: must be different numbers from 1 to 3"),
        (["--steps", "5"], "--steps 5: must be FIRST:LAST:EVERY"),
        (["--steps", "a:b"], "--steps a:b: must be FIRST:LAST:EVERY"),
        (["--steps", "::0"], "--steps ::0: must be FIRST:LAST:EVERY"),
        (["--steps", "1:2:3:4"], "--steps 1:2:3:4: must be FIRST:LAST:EVERY"),
        (["--frames-per-second", "0"], "--frames-per-second"),
    ],
)
def test_a_wrong_option_is_named(
    drawn: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert animate("drawn", *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(HAS_FFMPEG, reason="imageio-ffmpeg is installed")
def test_mp4_without_its_encoder_names_the_package(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert animate("drawn", "-o", "out.mp4") == 2
    assert "pip install 'sisr[video]'" in capsys.readouterr().err


@pytest.mark.skipif(not HAS_FFMPEG, reason="imageio-ffmpeg is not installed")
def test_mp4_shows_the_pictures_and_holds_the_last(trained: Path) -> None:
    ffmpeg: Any = importlib.import_module("imageio_ffmpeg")
    assert animate("trained", "-o", "out.mp4", "--frames-per-second", 5, "--hold-last", 1) == 0
    reader = ffmpeg.read_frames("out.mp4")
    facts = next(reader)
    width, height = facts["size"]
    shown = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    assert (facts["fps"], len(shown)) == (5, 3 + 5)
    assert width % 2 == height % 2 == 0
    with Image.open(trained / "samples" / "val" / "step_000000006.png") as picture:
        wanted = np.asarray(picture).astype(float)
    assert np.abs(shown[-1][: wanted.shape[0], : wanted.shape[1]] - wanted).mean() < 6
