"""Where a run is recorded: kept by meaning, not by path, and only where its user has said so."""

import json
import shutil

import pytest

from sisr.errors import TrackingError
from sisr.tracking import address
from sisr.tracking.address import Address, default_uri


@pytest.fixture(autouse=True)
def _no_server(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "a" / "runs" / "first"
    folder.mkdir(parents=True)
    return folder


def test_the_embedded_store_is_kept_without_its_path(run_dir, tmp_path):
    address.write(run_dir, address.decide(run_dir))
    assert str(tmp_path) not in (run_dir / address.FILE).read_text()
    (tmp_path / "a").rename(tmp_path / "b")
    runs = tmp_path / "b" / "runs"
    assert address.decide(runs / "first") == Address(default_uri(runs), "sisr")


@pytest.mark.parametrize("old_place", ["moved away", "copied"])
def test_a_path_that_an_earlier_version_kept_means_the_embedded_store_too(run_dir, tmp_path, old_place):
    old = {"tracking_uri": default_uri(run_dir.parent), "experiment": "hunts", "run_id": "7" * 32}
    (run_dir / address.FILE).write_text(json.dumps(old))
    (run_dir.parent / "mlflow.db").touch()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    if old_place == "moved away":
        shutil.rmtree(tmp_path / "a")
    runs = tmp_path / "b" / "runs"
    assert address.decide(runs / "first") == Address(default_uri(runs), "hunts", "7" * 32)


def test_a_trial_follows_its_moved_sweep(run_dir, tmp_path):
    (run_dir / "sweep.json").write_text("{}")
    trial = run_dir / "trials" / "0001"
    trial.mkdir(parents=True)
    for folder in (run_dir, trial):
        address.write(folder, Address(default_uri(run_dir.parent), "hunts", folder.name))
    (tmp_path / "a").rename(tmp_path / "b")
    runs = tmp_path / "b" / "runs"
    assert address.decide(runs / "first" / "trials" / "0001") == Address(default_uri(runs), "hunts", "0001")


@pytest.mark.parametrize("record", [{"format": 2}, {}])
@pytest.mark.parametrize("uri", ["http://elsewhere:5000", "https://elsewhere", "sqlite:////somewhere/else.db"])
def test_an_address_that_a_folder_brings_must_be_confirmed(run_dir, uri, record):
    (run_dir / address.FILE).write_text(json.dumps(record | {"tracking_uri": uri, "experiment": "x", "run_id": None}))
    with pytest.raises(TrackingError, match=f"--tracking-uri {uri}"):
        address.decide(run_dir)
    assert address.decide(run_dir, uri).tracking_uri == uri
    assert address.decide(run_dir).tracking_uri == uri  # from now on it is the user's own


def test_an_address_that_was_named_for_another_run_needs_no_confirmation(run_dir, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ours:5000")
    address.write(run_dir, address.decide(run_dir))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert address.decide(run_dir).tracking_uri == "http://ours:5000"


def test_a_run_in_another_folder_of_runs_is_found_in_the_store_beside_it(run_dir, tmp_path):
    address.write(run_dir, address.decide(run_dir))
    assert address.choose(None, tmp_path / "runs", run_dir) == default_uri(run_dir.parent)


@pytest.mark.parametrize("text", ["[1]", "null", '{"tracking_uri": 1, "experiment": "x"}', '{"experiment": null}', "{"])
def test_a_damaged_address_counts_as_none(run_dir, text):
    (run_dir / address.FILE).write_text(text)
    assert address.decide(run_dir) == Address(default_uri(run_dir.parent), "sisr")
