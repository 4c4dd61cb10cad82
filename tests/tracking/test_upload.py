"""Files that leave the machine come from inside the run's folder, and without secrets."""

import json

import pytest

from sisr.errors import DataError
from sisr.tracking.upload import staged

SETTINGS = {
    "run": {
        "config": {"api_token": "plant-1", "steps": 5, "endpoint": "https://me:plant-2@host/d"},
        "recipe_source": "token = read()\n",
    }
}


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "private.txt").write_text("mine")
    return folder


@pytest.mark.parametrize("path", ["../private.txt", "{outside}", "samples/../../private.txt", "link.txt", "folder"])
def test_nothing_outside_the_folder_is_given(run_dir, tmp_path, path):
    (run_dir / "link.txt").symlink_to(tmp_path / "private.txt")
    (run_dir / "folder").mkdir()
    (run_dir / "folder" / "inner.txt").symlink_to(tmp_path / "private.txt")
    with (
        pytest.raises(DataError, match="not a path inside"),
        staged(run_dir, path.format(outside=tmp_path / "private.txt")),
    ):
        pass


def test_a_link_to_a_file_inside_is_given(run_dir):
    (run_dir / "notes.txt").write_text("hello")
    (run_dir / "link.txt").symlink_to("notes.txt")
    with staged(run_dir, "link.txt") as folder:
        assert (folder / "link.txt").read_text() == "hello"


def test_settings_leave_without_secrets_and_stay_as_they_are(run_dir):
    with staged(run_dir, "run.json") as folder:
        found = json.loads((folder / "run.json").read_text())
    config = {"api_token": "[redacted]", "steps": 5, "endpoint": "https://[redacted]@host/d"}
    assert found == {"run": {"config": config, "recipe_source": "token = read()\n"}}
    assert json.loads((run_dir / "run.json").read_text()) == SETTINGS


@pytest.mark.parametrize("name", ["page.html", "table.csv", "best.yaml", "rows.jsonl", "picture.svg"])
def test_a_secret_of_the_settings_is_taken_out_of_every_text(run_dir, name):
    (run_dir / "results").mkdir()
    (run_dir / "results" / name).write_text('{"value": "plant-1", "from": "me:plant-2"}\n')
    with staged(run_dir, "results") as folder:
        text = (folder / name).read_text()
    assert "plant" not in text
    assert "value" in text


def test_what_holds_no_secret_is_the_same_to_the_byte(run_dir):
    for name, content in {
        "a.json": b'{"b":1,\n"a":2}',
        "w.safetensors": b"\0\xffplant-1",
        "r.py": b"token = 'x'",
    }.items():
        (run_dir / name).write_bytes(content)
        with staged(run_dir, name) as folder:
            assert (folder / name).read_bytes() == content
