"""A real MLflow server over HTTP with two runs that were really trained, for all tests that want such."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forked_courier import fork_couriers
from mlflow_shortcuts import new_database
from sisr import recipes
from sisr.driver.run import execute, hosts
from sisr.tracking import address
from sisr.tracking.server import Server, free_port
from sisr.training.run import Options

# Steps that are enough to beat bicubic on boards of large squares, and to beat it clearly.
QUALITY = {"worse": 60, "better": 150}


@dataclass(frozen=True)
class Place:
    """A server, and runs on it."""

    url: str
    runs: Path
    images: Path  # that no run was trained on
    artifacts: Path  # where the server keeps files


def boards(folder: Path, seed: int, count: int) -> Path:
    """Fill a folder with pictures that a tiny network learns to sharpen within seconds."""
    folder.mkdir()
    draws = np.random.default_rng(seed)
    for i in range(count):
        board = (draws.integers(0, 2, (16, 16)) * 200 + 20).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(np.repeat(board[..., None], 3, 2)).save(folder / f"{i:02d}.png")
    return folder


def train(name: str, steps: int, data: Path, runs: Path, uri: str) -> None:
    settings = {"scale": 2, "hr_crop": 32, "batch_size": 8, "learning_rate": 5e-3, "blur_sigma_min": 1e-6}
    settings |= {"blur_sigma_max": 0.0, "num_features": 16, "num_hr_features": 12, "steps": steps}
    order = execute.Order(
        recipe="pixelshuffle",
        values=recipes.load("pixelshuffle").tiny().model_dump(mode="json") | settings,
        options=Options(evaluate_every=50, threads=1, precision="fp32", ema_half_life_images=50),
        name=name,
        data=str(data),
        runs=runs,
    )
    execute.execute(order, execute.Tracking(uri=uri, experiment="boards"), hosts.in_process)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Iterator[Place]:
    """A server with two trained runs, of different quality."""
    folder = tmp_path_factory.mktemp("register")
    server = Server(new_database(folder), free_port(None, 5600), folder / "server.log")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SISR_CACHE", str(session_cache))
        fork_couriers(patch)
        patch.setattr("sisr.tracking.server.START_TIMEOUT_S", 400.0)  # on a busy machine
        for name, value in address.ENVIRONMENT.items():
            patch.setenv(name, value)
        try:
            train_on = boards(folder / "train", 0, 24)
            server.wait()
            for name, steps in QUALITY.items():
                train(name, steps, train_on, folder / "runs", server.url)
            yield Place(server.url, folder / "runs", boards(folder / "test", 1, 8), folder / "mlartifacts")
        finally:
            server.stop()
