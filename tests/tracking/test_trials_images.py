"""What a trial was trained on, told by MLflow alone, as to a machine that has no folder of its sweep."""

import json
from pathlib import Path

import pytest

from driven_sweep import EVERY, SteppingHost, write_page
from mlflow_shortcuts import new_database
from sisr.evaluation import images
from sisr.sweep.report import results
from sisr.tracking import address, candidate, courier, store

pytestmark = pytest.mark.mlflow


def test_mlflow_alone_says_which_images_a_sweeps_trial_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in address.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(results, "write", write_page)
    host = SteppingHost(tmp_path, scheduler="none", trials=1, steps=EVERY)
    host.held_out = ["b.png"]
    host.folder.record_files({"a.png": "0" * 64, "b.png": "1" * 64})
    host.search()
    server = new_database(tmp_path)
    assert courier.deliver(host.folder.path, server).delivered
    client = store.client(server)
    (experiment,) = [found for found in client.search_experiments() if found.name == "sisr"]
    (trial,) = client.search_runs([experiment.experiment_id], "tags.`sisr.kind` = 'trial'")
    record = json.loads(candidate._artifact(client, trial.info.run_id, "run.json") or b"{}")
    assert images.trained_on(record, candidate.image_hashes(client, trial)) == {"0" * 64}
