import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sisr.errors import CheckpointError, DiskError
from sisr.training.checkpoint import MANIFEST, MAX_FAILED_SAVES, STATE, Checkpoints, digest, load_state, verify


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.arange(1000.0) * step, "nested": {"list": [1, 2.5, "x"], "pair": (1, 2)}}


def write_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"recipe": "x"}')


def saved(root: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(root)
    for step in steps:
        assert checkpoints.save(step, state(step), write_config, {"world": 1})
    return checkpoints


def test_the_newest_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    folder, loaded = saved(tmp_path, 5, 10).newest()  # type: ignore[misc]
    assert folder.name == "step_000000010"
    assert digest(loaded) == digest(state(10))


def test_order_comes_from_the_step_and_not_from_the_clock(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5, 10)
    os.utime(tmp_path / "step_000000005", (2**31, 2**31))
    assert checkpoints.newest()[0].name == "step_000000010"  # type: ignore[index]


def test_no_checkpoint_at_all_is_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "absent").newest() is None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def hole(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 4 : len(data) // 4 + 512] = bytes(512)
    path.write_bytes(data)


CORRUPTIONS = {
    "one flipped bit": flip,
    "a hole of zeros": hole,
    "half of it missing": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "ten bytes missing": lambda p: p.write_bytes(p.read_bytes()[:-10]),
    "empty": lambda p: p.write_bytes(b""),
    "another file": lambda p: p.write_bytes(b"hello"),
    "absent": lambda p: p.unlink(),
}


@pytest.mark.parametrize("target", [STATE, "config.json", MANIFEST])
@pytest.mark.parametrize("damage", CORRUPTIONS)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, target: str, damage: str) -> None:
    checkpoints = saved(tmp_path, 5, 10)
    path = tmp_path / "step_000000010" / target
    before = path.read_bytes()
    CORRUPTIONS[damage](path)
    if path.exists() and path.read_bytes() == before:
        pytest.skip("the damage changed no byte of this file")
    with pytest.warns(UserWarning, match="step_000000010"):
        folder, loaded = checkpoints.newest()  # type: ignore[misc]
    assert folder.name == "step_000000005"
    assert loaded["step"] == 5


def test_when_all_are_damaged_the_error_names_each_and_nothing_is_deleted(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5, 10)
    for folder in checkpoints.folders():
        flip(folder / STATE)
    both = r"step_000000010.*step_000000005"
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(CheckpointError, match=both):
        checkpoints.newest()
    assert len(checkpoints.folders()) == 2


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "marker"),))

    saved(tmp_path, 5)
    folder = tmp_path / "step_000000005"
    torch.save({"x": Evil()}, folder / STATE)
    manifest = json.loads((folder / MANIFEST).read_text())
    import hashlib

    data = (folder / STATE).read_bytes()
    manifest["files"][STATE] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="can't be loaded"):
        load_state(folder)
    assert not (tmp_path / "marker").exists()


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2, 3, 4)
    checkpoints.prune(best_step=1)
    assert [f.name for f in checkpoints.folders()] == ["step_000000004", "step_000000003", "step_000000001"]


def test_a_damaged_newest_one_is_set_aside_and_does_not_push_out_whole_ones(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5, 9, 10)
    for name in ("step_000000009", "step_000000010"):
        flip(tmp_path / name / STATE)
    with pytest.warns(UserWarning, match="passed over"):
        restored = checkpoints.newest()
    assert restored is not None
    checkpoints.set_aside_newer(restored[0])
    checkpoints.save(6, state(6), write_config, {})
    checkpoints.prune(None)
    assert [f.name for f in checkpoints.folders()] == ["step_000000006", "step_000000005"]
    assert len(list(tmp_path.glob(".damaged-step_*"))) == 2


def test_a_disk_that_fills_up_under_the_model_file_is_reported_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sisr.models.files import WEIGHTS, save_model

    checkpoints = saved(tmp_path, 5)
    network = torch.nn.Linear(2, 2)
    real_open = io.open

    def full(path: Any, *arguments: Any, **options: Any) -> Any:
        return real_open("/dev/full" if str(path).endswith(WEIGHTS) else path, *arguments, **options)

    monkeypatch.setattr("io.open", full)
    meta = {"recipe": "x", "config": {}, "scale": 4}
    with pytest.warns(UserWarning, match=r"No space left.*MiB free.*takes about .* bytes; training goes on"):
        assert not checkpoints.save(6, state(6), lambda folder: save_model(folder, network, meta), {})
    assert not list(tmp_path.glob(".unfinished*"))


def test_a_full_disk_keeps_the_last_checkpoint_and_ends_after_several_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = saved(tmp_path, 5)
    real_open = open

    def full(path: Any, *arguments: Any, **options: Any) -> Any:
        return real_open("/dev/full" if str(path).endswith(STATE) else path, *arguments, **options)

    monkeypatch.setattr("builtins.open", full)
    for attempt in range(1, MAX_FAILED_SAVES):
        with pytest.warns(UserWarning, match=r"No space left.*training goes on"):
            assert not checkpoints.save(5 + attempt, state(5 + attempt), write_config, {})
    with pytest.raises(
        DiskError, match=r"step_000000009 can't be written: No space left.*MiB free.*run the same command again"
    ):
        checkpoints.save(9, state(9), write_config, {})
    monkeypatch.undo()
    assert checkpoints.newest()[1]["step"] == 5  # type: ignore[index]
    assert not list(tmp_path.glob(".unfinished*"))


KILLED_AT = """
import os, signal, sys
from pathlib import Path
import torch
from sisr.disk import atomic
from sisr.training import checkpoint

root, point = Path(sys.argv[1]), sys.argv[2]
def die(*a, **k): os.kill(os.getpid(), signal.SIGKILL)
def state(step): return {"step": step, "weights": torch.arange(1000.0) * step}
def config(folder): (folder / "config.json").write_text("{}")
checkpoints = checkpoint.Checkpoints(root)
checkpoints.save(5, state(5), config, {})
if point == "state": checkpoint.torch.save = die
if point == "model": config = die
if point == "manifest": checkpoint.digest = die
if point == "sync": atomic._sync = die
if point == "rename": Path.rename = die
if point == "renamed": atomic._sync = lambda path: die() if path == root else None
checkpoints.save(6, state(6), config, {})
if point == "prune": atomic.shutil.rmtree = die
checkpoints.save(7, state(7), config, {})
checkpoints.prune(None)
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", ["state", "model", "manifest", "sync", "rename", "renamed", "prune"])
def test_a_kill_at_any_moment_of_saving_leaves_a_whole_checkpoint(tmp_path: Path, point: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_AT, str(tmp_path), point], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    newest = Checkpoints(tmp_path).newest()
    assert newest is not None
    assert newest[1]["step"] in {"renamed": {6}, "prune": {7}}.get(point, {5})
    assert sum((folder / MANIFEST).is_file() for folder in tmp_path.glob("step_*")) >= 1


def test_a_killed_saves_leftovers_are_swept_by_the_next(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5)
    (tmp_path / ".unfinished-1234").mkdir()
    checkpoints.save(6, state(6), write_config, {})
    assert not list(tmp_path.glob(".unfinished*"))


def test_the_manifest_carries_the_states_digest(tmp_path: Path) -> None:
    saved(tmp_path, 5)
    assert verify(tmp_path / "step_000000005")["digest"] == digest(state(5))


def test_the_digest_sees_every_kind_of_difference() -> None:
    base = {"a": torch.zeros(2), "b": [1, 2]}
    others: list[Any] = [
        {"a": torch.zeros(2, dtype=torch.float64), "b": [1, 2]},
        {"a": torch.tensor([0.0, -0.0]), "b": [1, 2]},
        {"a": torch.zeros(1, 2), "b": [1, 2]},
        {"a": torch.zeros(2), "b": [1, 3]},
        {"a": torch.zeros(2), "c": [1, 2]},
    ]
    assert digest(base) == digest({"b": [1, 2], "a": torch.zeros(2)})
    assert len({digest(base), *map(digest, others)}) == 1 + len(others)
