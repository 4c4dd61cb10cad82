"""Enlarging, judging and serving on a GPU: what a CPU makes of the same pictures, to a grey level."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from asgi import call
from sisr.evaluation.measure import Original, evaluate_models
from sisr.inference.enlarge import enlarge
from sisr.metrics.protocol import PROTOCOLS
from sisr.models.model import load_model
from sisr.serving import opening
from sisr.serving.app import build
from sisr.serving.engine import Engine
from sisr.serving.limits import Limits
from sisr.training.device import choose_device
from tiny_model import save

pytestmark = pytest.mark.usefixtures("float32_is_float32")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "model")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def pixels(file: Path | io.BytesIO) -> np.ndarray:
    return np.asarray(Image.open(file)).astype(int)


def assert_same_picture(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.mean(np.abs(ours - theirs) <= 1) >= 0.999


@pytest.mark.parametrize("tile", [None, 16])
def test_a_picture_is_enlarged_as_on_a_cpu(
    tmp_path: Path, model: Path, picture: Path, device: torch.device, tile: int | None
) -> None:
    for name, where in (("here", device), ("there", torch.device("cpu"))):
        enlarge(load_model(model).generator.to(where), picture, tmp_path / f"{name}.png", tile=tile)
    assert_same_picture(pixels(tmp_path / "here.png"), pixels(tmp_path / "there.png"))


def test_a_model_is_judged_as_on_a_cpu(model: Path, picture: Path, device: torch.device) -> None:
    hr = np.asarray(Image.open(picture))
    found = [
        evaluate_models([("m", load_model(model).generator.to(where))], [Original("p", hr)], 4, PROTOCOLS[0])
        for where in (device, torch.device("cpu"))
    ]
    ours, theirs = (measured[0].mean for measured in found)
    assert ours == pytest.approx(theirs, abs=0.01)


def test_a_request_is_answered_as_on_a_cpu(tmp_path: Path, model: Path, picture: Path, device: torch.device) -> None:
    limits = Limits(max_bytes=1_000_000, max_pixels=100_000, queue=2, time_s=60)
    app = build(Engine(opening.read(model, "tiny", "1"), device, limits))
    answer = call(app, "POST", "/upscale", picture.read_bytes(), content_type="image/png")
    assert answer.status == 200, answer.body
    enlarge(load_model(model).generator, picture, tmp_path / "there.png")
    assert_same_picture(pixels(io.BytesIO(answer.body)), pixels(tmp_path / "there.png"))


@pytest.mark.gpu
def test_training_takes_the_gpu_by_itself(gpu: torch.device) -> None:
    assert choose_device() == gpu
