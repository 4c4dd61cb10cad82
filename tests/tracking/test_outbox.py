import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from sisr.disk import journal
from sisr.disk.journal import rows
from sisr.disk.lock import is_held
from sisr.errors import ConfigError, DiskError, RunLockedError
from sisr.tracking.outbox import FILE, Outbox, records


def read(run_dir, op=None):
    found = [row for row, _ in rows(run_dir / FILE) if row is not None]
    return [row for row in found if op in (None, row["op"])]


def test_records_come_back_in_order_with_numbers_and_times(tmp_path):
    with Outbox(tmp_path) as outbox:
        outbox.metrics(0, {"a": 1.5})
        outbox.params({"steps": 10})
        outbox.status("FINISHED")
    found = read(tmp_path)
    assert [r["n"] for r in found] == [0, 1, 2, 3]
    assert [r["op"] for r in found] == ["open", "metrics", "params", "status"]
    assert found[1]["values"] == {"a": 1.5}
    assert all(later["t"] >= earlier["t"] for earlier, later in pairwise(found))


def test_a_torn_last_line_is_skipped_and_writing_goes_on_behind_it(tmp_path):
    with Outbox(tmp_path) as outbox:
        outbox.metrics(0, {"a": 1})
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"n":2,"t":17,"op":"metr')
    with Outbox(tmp_path) as outbox:
        outbox.metrics(1, {"a": 2})
    assert [r["n"] for r in read(tmp_path)] == [0, 1, 2, 3]
    assert [r["step"] for r in read(tmp_path, "metrics")] == [0, 1]


def test_an_incomplete_last_line_is_not_read_yet(tmp_path):
    path = tmp_path / FILE
    path.write_bytes(b'{"op":"open"}\n{"op":')
    assert [end for _, end in rows(path)] == [14]


def test_ten_thousand_records_survive_kill_9(tmp_path):
    code = (
        "import sys, pathlib; from sisr.tracking.outbox import Outbox; o = Outbox(pathlib.Path(sys.argv[1]))\n"
        "for i in range(10_000): o.metrics(i, {'a': i})\n"
        "print('done', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert is_held(tmp_path / FILE)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert [r["step"] for r in read(tmp_path, "metrics")] == list(range(10_000))
    assert not is_held(tmp_path / FILE)


def test_a_resumed_run_does_not_record_twice_what_it_says_again(tmp_path):
    with Outbox(tmp_path) as outbox:
        for step in range(6):
            outbox.metrics(step, {"loss": step / 3})
        outbox.image(5, "val/grid", "samples/a.png")
    with Outbox(tmp_path) as outbox:
        for step in range(4, 8):
            outbox.metrics(step, {"loss": step / 3})
        outbox.image(5, "val/grid", "samples/a.png")
    assert [r["step"] for r in read(tmp_path, "metrics")] == list(range(8))
    assert len(read(tmp_path, "image")) == 1


def test_a_resumed_run_records_what_came_out_differently(tmp_path):
    with Outbox(tmp_path) as outbox:
        outbox.metrics(4, {"loss": 1.0, "same": 2.0})
    with Outbox(tmp_path) as outbox:
        outbox.metrics(4, {"loss": 1.5, "same": 2.0})
    assert read(tmp_path, "metrics")[-1]["values"] == {"loss": 1.5}


def test_attempts_share_one_run_and_changed_params_become_tags(tmp_path):
    with Outbox(tmp_path) as outbox:
        outbox.params({"steps": 10, "scale": 4})
        outbox.status("RUNNING")
    with Outbox(tmp_path) as outbox:
        outbox.params({"steps": 20, "scale": 4, "new": 1})
    assert len({r["run_uid"] for r in read(tmp_path, "open")}) == 1
    assert [r["values"] for r in read(tmp_path, "params")] == [{"steps": "10", "scale": "4"}, {"new": "1"}]
    assert [r["values"] for r in read(tmp_path, "tags")] == [{"resume.1.steps": "20"}]


def test_numbers_that_are_not_finite_are_recorded_as_such(tmp_path):
    with Outbox(tmp_path) as outbox:
        outbox.metrics(3, {"loss": float("nan"), "other": 1.0, "big": float("inf")})
    values = {"loss_finite": 0.0, "other": 1.0, "big_finite": 0.0}
    assert read(tmp_path, "metrics")[0]["values"] == values
    assert read(tmp_path, "tags")[0]["values"] == {"sisr.not_finite": "step 3: loss is nan, big is inf"}


def test_secrets_do_not_reach_the_file(tmp_path):
    with Outbox(tmp_path) as outbox:
        outbox.params({"api_token": "plant-1", "tokenizer": "bpe", "author": "me", "nested": {"password": "plant-2"}})
        outbox.tags({"source": "https://me:plant-3@host/data", "command": "train --token plant-4"})
    text = (tmp_path / FILE).read_text()
    assert "plant" not in text
    assert "bpe" in text
    assert '"author":"me"' in text


@pytest.mark.parametrize("path", ["../other/a.png", "/etc/passwd", "samples/../../x"])
def test_paths_outside_the_run_are_refused(tmp_path, path):
    with Outbox(tmp_path / "run") as outbox, pytest.raises(ConfigError, match="inside the run's folder"):
        outbox.image(0, "val", path)


@pytest.mark.parametrize("key", ["a+b", "a%b", "", "x" * 101, "é"])
def test_image_keys_that_mlflow_would_refuse_are_refused_at_once(tmp_path, key):
    with Outbox(tmp_path) as outbox, pytest.raises(ConfigError, match="can't name"):
        outbox.image(0, key, "a.png")


def test_a_second_writer_is_kept_out(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "LOCK_PATIENCE_S", 0.2)
    with Outbox(tmp_path), pytest.raises(RunLockedError, match="another process is writing"):
        Outbox(tmp_path)


def test_records_wait_in_memory_while_the_disk_is_full(tmp_path, monkeypatch):
    real = os.write
    with Outbox(tmp_path) as outbox:
        full = OSError(28, "No space left on device")
        monkeypatch.setattr(journal.os, "write", lambda f, data: (_ for _ in ()).throw(full))
        outbox.metrics(0, {"a": 1})
        monkeypatch.setattr(journal.os, "write", lambda f, data: real(f, bytes(data[:7])))
        outbox.metrics(1, {"a": 2})
    assert [r["step"] for r in read(tmp_path, "metrics")] == [0, 1]


def test_importing_the_outbox_loads_neither_torch_nor_mlflow():
    code = (
        "import sys, sisr.tracking.outbox; print([m for m in ('torch', 'mlflow', 'ray', 'numpy') if m in sys.modules])"
    )
    assert json.loads(subprocess.check_output([sys.executable, "-c", code]).decode().replace("'", '"')) == []


def test_a_step_that_is_taken_again_records_its_speed_once(tmp_path: Path) -> None:
    for speed in (50.0, 70.0):
        with Outbox(tmp_path) as outbox:
            outbox.metrics(5, {"loss": 1.0, "speed/images_per_second": speed})
    found = [row["values"] for row, _ in rows(tmp_path / FILE) if row and row["op"] == "metrics"]
    assert found == [{"loss": 1.0, "speed/images_per_second": 50.0}]


def test_a_clock_that_is_set_back_lets_no_record_be_earlier_than_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.status("RUNNING")
    monkeypatch.setattr("time.time_ns", lambda: 0)
    with Outbox(tmp_path) as outbox:
        outbox.status("FINISHED")
    times = [row["t"] for row, _ in rows(tmp_path / FILE) if row]
    assert times == sorted(times)
    assert times[0] > 0


@pytest.mark.parametrize(
    "line", ['{"t":1,"op":"tags","values":{}}', '{"n":"7","t":1,"op":"open"}', '{"n":1,"t":1,"op":[]}']
)
def test_a_row_that_is_no_whole_record_is_passed_over(tmp_path, line):
    with Outbox(tmp_path) as outbox:
        outbox.metrics(1, {"loss": 0.5})
    with (tmp_path / FILE).open("a") as file:
        file.write(line + "\n")
    with Outbox(tmp_path) as outbox:
        outbox.metrics(2, {"loss": 0.25})
    assert [row and row["n"] for row, _ in records(tmp_path / FILE)] == [0, 1, None, 2, 3]


def test_an_outbox_that_cant_be_flushed_raises_nothing_over_the_error_on_its_way(tmp_path, monkeypatch):
    def full(self):
        raise DiskError("no room")

    def fail(error):
        with Outbox(tmp_path):
            if error:
                raise error

    monkeypatch.setattr(journal.Journal, "flush", full)
    with pytest.raises(KeyError):
        fail(KeyError())
    with pytest.raises(DiskError):
        fail(None)
