"""TensorBoard's event files hold what the outbox holds, once."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sisr.disk.run_folder import RunFolder
from sisr.tracking.outbox import FILE, Outbox, records
from sisr.tracking.tensorboard import FOLDER
from sisr.training.device import choose_device
from sisr.training.loop import train
from sisr.training.run import Options, Run
from sisr.training.session import PlainSession

PHOTOS = Path(__file__).parents[1] / "training" / "recorded_run" / "photos"


def events(run_dir: Path) -> list[Any]:
    """The events of all files, read as TensorBoard's format says: length, its sum, the message, its sum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((run_dir / FOLDER).iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            found.append(Event.FromString(content[place + 12 : place + 12 + length]))
            place += 16 + length
    return found


def numbers(run_dir: Path) -> list[tuple[int, str, float]]:
    return [
        (event.step, value.tag, value.simple_value)
        for event in events(run_dir)
        for value in event.summary.value
        if value.HasField("simple_value")
    ]


def in_outbox(run_dir: Path, op: str) -> list[dict[str, Any]]:
    return [row for row, _ in records(run_dir / FILE) if row and row["op"] == op]


def picture(run_dir: Path) -> np.ndarray:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(pixels).save(run_dir / "a.png")
    return pixels


def test_numbers_and_pictures_are_read_back_as_they_were(tmp_path: Path) -> None:
    pixels = picture(tmp_path)
    with Outbox(tmp_path, tensorboard=True) as log:
        log.metrics(3, {"val/psnr_y": 28.5, "generator/pixel": 0.25})
        log.image(3, "val/samples", "a.png")
        log.tags({"a": "b"})
    assert numbers(tmp_path) == [(3, "val/psnr_y", 28.5), (3, "generator/pixel", 0.25)]
    (image,) = [v for event in events(tmp_path) for v in event.summary.value if v.HasField("image")]
    assert (image.tag, image.image.width, image.image.height) == ("val/samples", 6, 4)
    assert (np.asarray(Image.open(io.BytesIO(image.image.encoded_image_string))) == pixels).all()


def test_what_a_resumed_run_repeats_is_there_once_and_what_was_there_before_stays(tmp_path: Path) -> None:
    for steps in ((1, 2, 3), (2, 3, 4)):
        with Outbox(tmp_path, tensorboard=True) as log:
            for step in steps:
                log.metrics(step, {"a": step / 2})
    assert numbers(tmp_path) == [(step, "a", step / 2) for step in (1, 2, 3, 4)]


def test_a_run_that_has_begun_without_gets_its_past(tmp_path: Path) -> None:
    picture(tmp_path)
    with Outbox(tmp_path) as log:
        log.metrics(1, {"a": 1.0})
        log.image(1, "val/samples", "a.png")
        log.image(2, "val/samples", "gone.png")
    with Outbox(tmp_path, tensorboard=True) as log:
        log.metrics(2, {"a": 2.0})
    assert numbers(tmp_path) == [(1, "a", 1.0), (2, "a", 2.0)]
    assert [event.step for event in events(tmp_path) if any(v.HasField("image") for v in event.summary.value)] == [1]


def test_a_viewer_is_told_to_forget_the_file_before(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import SessionLog

    Outbox(tmp_path, tensorboard=True).close()
    started = [event for event in events(tmp_path) if event.HasField("session_log")]
    assert [(event.step, event.session_log.status) for event in started] == [(0, SessionLog.START)]


def test_without_the_option_there_are_no_files(tmp_path: Path) -> None:
    Outbox(tmp_path).close()
    assert not (tmp_path / FOLDER).exists()


def test_a_folder_that_cannot_be_written_is_a_warning_of_the_run_and_the_outbox_goes_on(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    with Outbox(tmp_path, tensorboard=True) as log:
        log.metrics(1, {"a": 1.0})
    assert in_outbox(tmp_path, "metrics")
    assert any("training goes on" in line for line in RunFolder(tmp_path).warnings())


@pytest.mark.slow
def test_an_interrupted_run_has_the_events_of_its_outbox(tmp_path: Path) -> None:
    import outside_recipe

    config = {"scale": 2, "batch_size": 2, "steps": 6, "hr_crop": 16, "num_features": 4}
    options = Options(precision="fp32", threads=1, evaluate_every=2, validation_side=24, perceptual="none", log_every=1)
    text = outside_recipe.text()
    run = Run(name="t", recipe="espcn", recipe_source=text, config=config, options=options, data=str(PHOTOS))
    folder = RunFolder(tmp_path / "run")
    for until in (3, None):
        with Outbox(folder.path, tensorboard=True) as log:
            train(run, folder, PlainSession(folder, choose_device(), until=until), log)
    recorded = [
        (r["step"], n, np.float32(v)) for r in in_outbox(folder.path, "metrics") for n, v in r["values"].items()
    ]
    assert numbers(folder.path) == recorded
    shown = [event.step for event in events(folder.path) if any(v.HasField("image") for v in event.summary.value)]
    assert shown == [row["step"] for row in in_outbox(folder.path, "image")] == [0, 2, 4, 6]
