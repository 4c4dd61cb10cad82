"""A run in object storage that is killed again and again, its disk lost each time, ends as an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from disturbed import write_recipe
from mlflow_shortcuts import leave_out_courier
from object_storage import Wire
from sisr.driver.run import execute, hosts
from sisr.storage import lease, mirror, snapshot
from sisr.storage.address import runs_folder
from sisr.storage.bucket import Bucket
from sisr.terminal import cli
from sisr.training.run import Options

STEPS, KILLS = 40, 2


def order(recipe: Path, runs: str) -> execute.Order:
    values = {"steps": STEPS, "batch_size": 2, "hr_crop": 16, "num_features": 8, "num_hr_features": 4, "num_blocks": 1}
    options = Options(evaluate_every=4, log_every=4, threads=1, precision="fp32", validation_side=32, perceptual="none")
    return execute.Order(recipe=str(recipe), values=values, options=options, name="a", runs=runs_folder(runs))


def final(folder: Path) -> tuple[str, bytes]:
    """The digest of a run's complete last state, and its model."""
    manifest = json.loads((folder / "checkpoints" / f"step_{STEPS:09d}" / "manifest.json").read_text())
    return str(manifest["digest"]), (folder / "model" / "generator.safetensors").read_bytes()


def train(recipe: Path, runs: str, cache: Path, step_s: float) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"SISR_CACHE": str(cache), "STEP_S": str(step_s), "PYTHONPATH": ":".join(sys.path)}
    return subprocess.Popen([sys.executable, __file__, str(recipe), runs], env=environment)


def newest_step(wire: Wire) -> int:
    """The step of the newest checkpoint that storage has, 0 before the first."""
    found = snapshot.newest(Bucket(wire.address("runs/a")))
    steps = [int(path.split("/")[1][5:]) for path in found.files if path.endswith("manifest.json")] if found else []
    return max(steps, default=0)


@pytest.mark.slow
def test_runs_whose_machines_die_end_as_an_undisturbed_one(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_courier: None, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, address = write_recipe(tmp_path), wire.address().written
    monkeypatch.setenv("STEP_S", "0")
    monkeypatch.setenv("NOTES", str(recipe.parent / "notes"))
    monkeypatch.setenv(lease.TTL, "2")
    execute.execute(order(recipe, str(tmp_path / "undisturbed")), execute.Tracking(), hosts.in_process)
    draws = random.Random(0)
    for kill in range(KILLS):
        before = newest_step(wire)
        process = train(recipe, address, tmp_path / f"cache{kill}", step_s=0.15)
        try:
            while newest_step(wire) <= before:
                assert process.poll() is None
                time.sleep(0.3)
            time.sleep(draws.uniform(0, 0.6))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert process.returncode == -signal.SIGKILL
    assert newest_step(wire) < STEPS, "nothing was left to go on with"
    assert train(recipe, address, tmp_path / "last", step_s=0).wait() == 0
    with pytest.raises(SystemExit) as end:
        cli.main(["pull", wire.address("runs/a").written, str(tmp_path / "home")])
    assert not end.value.code
    assert final(tmp_path / "home") == final(tmp_path / "undisturbed" / "a")
    # And who reads it, reads the same, by its address or its name.
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "reader"))
    capsys.readouterr()
    for words in (["show", wire.address("runs/a").written], ["show", "a", "--runs", address]):
        with pytest.raises(SystemExit):
            cli.main([*words, "--json"])
        shown = json.loads(capsys.readouterr().out)
        assert (shown["state"], shown["status"]["step"]) == ("finished", STEPS)


if __name__ == "__main__":
    patch = pytest.MonkeyPatch()
    leave_out_courier(patch)
    patch.setattr(mirror, "EVERY_S", 0.1)
    execute.execute(order(Path(sys.argv[1]), sys.argv[2]), execute.Tracking(), hosts.in_process)
