"""A sweep whose trials share a GPU, under a real Ray."""

import json
from pathlib import Path

import pytest
import yaml

from gpus import require_gpus
from sisr.cluster import connection
from sisr.cluster.tune import RayTune
from sisr.driver.run.execute import Tracking
from sisr.driver.sweep.execute import execute
from sisr.driver.sweep.planning import plan_of

STEPS = 8


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.slow
@pytest.mark.parametrize("gpus", [pytest.param(0.5, marks=pytest.mark.gpu)], ids=["half a GPU"])
def test_two_trials_at_a_time_share_a_device(tmp_path: Path, images: Path, gpus: float) -> None:
    if gpus:
        require_gpus(1)
    tiny = {"batch_size": 2, "hr_crop": 16, "num_features": 8, "num_hr_features": 4, "num_blocks": 1}
    space = {"learning_rate": {"choice": [1e-4, 1e-3]}}
    content = {"objective": "val/psnr_y", "trials": 2, "search": "grid", "scheduler": "none", "steps": STEPS}
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({**content, "fixed": tiny, "space": space}))
    options = {"threads": 1, "validation_side": 48, "perceptual": "none"}
    plan, found = plan_of("pixelshuffle", name="s", search_space=path, data=str(images), options=options)
    connection.prepare_environment()
    host = RayTune(gpus_per_worker=gpus, cpus_per_worker=1, concurrency=2, address="local")
    result = execute(plan, found, host, Tracking(), runs=tmp_path / "runs")
    assert [trial.state for trial in result.trials] == ["finished", "finished"]
    trials = sorted((tmp_path / "runs" / "s" / "trials").iterdir())
    devices = [json.loads((trial / "status.json").read_text())["device"] for trial in trials]
    assert devices == ["cuda:0" if gpus else "cpu"] * 2
