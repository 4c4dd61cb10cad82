import hashlib
import io
import json
import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from forks import forkserver
from sisr.disk import atomic
from sisr.errors import CheckpointError, DiskError
from sisr.training import checkpoint_files
from sisr.training.checkpoint import MAX_FAILED_SAVES, Checkpoints
from sisr.training.checkpoint_files import MANIFEST, STATE, load_state, verify
from sisr.training.digest import digest, quick_digest


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


def test_a_disk_that_fills_up_at_any_byte_of_the_state_is_reported_as_such(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5)
    size = (checkpoints.folders()[0] / STATE).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in range(0, size, size // 20):  # files can't grow beyond so many bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            with pytest.warns(UserWarning, match=r"File too large.*training goes on"):
                assert not Checkpoints(tmp_path).save(6, state(6), write_config, {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    checkpoints, may_end = Checkpoints(tmp_path), threading.Event()
    checkpoints.begin(5, state(5), lambda folder: may_end.wait(60), {})
    checkpoints.look()
    assert checkpoints.newest() is None
    may_end.set()
    assert checkpoints.finish()
    assert checkpoints.newest()[1]["step"] == 5  # type: ignore[index]


def test_a_second_save_waits_for_the_first(tmp_path: Path) -> None:
    checkpoints, there = Checkpoints(tmp_path), list[Path]()
    checkpoints.begin(5, state(5), write_config, {})
    checkpoints.begin(6, state(6), lambda folder: there.extend(checkpoints.folders()), {})
    assert checkpoints.finish()
    assert [folder.name for folder in there] == ["step_000000005"]


def failing(folder: Path) -> None:
    raise OSError(28, "No space left on device")


def test_a_failed_save_is_reported_by_the_first_look_after_its_end(tmp_path: Path) -> None:
    warned: list[str] = []
    checkpoints = Checkpoints(tmp_path, warn=warned.append)
    for step in range(1, MAX_FAILED_SAVES + 1):
        checkpoints.begin(step, state(step), failing, {})
        assert len(warned) == step - 1
        checkpoints._saving.thread.join()  # type: ignore[union-attr]
        if step < MAX_FAILED_SAVES:
            checkpoints.look()
    assert len(warned) == MAX_FAILED_SAVES - 1
    with pytest.raises(DiskError, match=r"of step 3 was not saved.*\(3 times in a row\)"):
        checkpoints.look()


def test_the_last_save_has_no_second_chance_and_hides_no_other_error(tmp_path: Path) -> None:
    warned: list[str] = []
    checkpoints = Checkpoints(tmp_path, warn=warned.append)
    checkpoints.begin(1, state(1), failing, {}, last=True)
    with pytest.raises(DiskError, match="Free space and run the same command again"):
        checkpoints.finish()
    checkpoints.begin(1, state(1), failing, {}, last=True)
    checkpoints.close()
    assert "the checkpoint of step 1 was not saved" in warned[0]


def test_our_own_mistake_in_the_thread_is_raised_in_the_loop(tmp_path: Path) -> None:
    def wrong(folder: Path) -> None:
        raise KeyError("x")

    checkpoints = Checkpoints(tmp_path)
    checkpoints.begin(1, state(1), wrong, {})
    with pytest.raises(KeyError):
        checkpoints.finish()


def save_until_killed(root: Path, point: str) -> None:
    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    places: dict[str, tuple[Any, str, Any]] = {
        "state": (checkpoint_files.torch, "save", die),
        "manifest": (checkpoint_files, "digest", die),
        "sync": (atomic, "_sync", die),
        "rename": (Path, "rename", die),
        "renamed": (atomic, "_sync", lambda path: die() if path == root else None),
        "prune": (atomic.shutil, "rmtree", die),
    }
    checkpoints = Checkpoints(root)
    checkpoints.save(5, state(5), write_config, {})
    if point in places and point != "prune":
        setattr(*places[point])
    checkpoints.save(6, state(6), die if point == "model" else write_config, {})
    if point == "prune":
        setattr(*places[point])
    checkpoints.save(7, state(7), write_config, {})
    checkpoints.prune(None)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["state", "model", "manifest", "sync", "rename", "renamed", "prune"])
def test_a_kill_at_any_moment_of_saving_leaves_a_whole_checkpoint(tmp_path: Path, point: str) -> None:
    process = forkserver().Process(target=save_until_killed, args=(tmp_path, point))
    process.start()
    process.join()
    assert process.exitcode == -9
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


@pytest.mark.parametrize("of", [digest, quick_digest])
def test_the_digest_sees_every_kind_of_difference(of: Callable[[Any], str]) -> None:
    base = {"a": torch.zeros(2), "b": [1, 2]}
    others: list[Any] = [
        {"a": torch.zeros(2, dtype=torch.float64), "b": [1, 2]},
        {"a": torch.tensor([0.0, -0.0]), "b": [1, 2]},
        {"a": torch.zeros(1, 2), "b": [1, 2]},
        {"a": torch.zeros(2), "b": [1, 3]},
        {"a": torch.zeros(2), "c": [1, 2]},
    ]
    assert of(base) == of({"b": [1, 2], "a": torch.zeros(2)})
    assert len({of(base), *map(of, others)}) == 1 + len(others)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.bool]
)
def test_the_quick_digest_sees_one_changed_value_of_any_type(dtype: torch.dtype) -> None:
    values = torch.ones(2, 3, 4, 5).to(dtype).to(memory_format=torch.channels_last)
    before = quick_digest([values, values[0, 0, 0, 0]])
    values[1, 2, 3, 4] = 0
    assert quick_digest([values, values[0, 0, 0, 0]]) != before


def test_digest_and_file_are_those_of_the_recorded_format(tmp_path: Path) -> None:
    """A state of known bytes, hashed by hand."""
    tensor = torch.tensor([1.0, 2.0])
    expected = hashlib.sha256(b"dict 1 'w'tensor torch.float32 (2,) " + tensor.numpy().tobytes()).hexdigest()
    assert digest({"w": tensor}) == expected
    (folder,) = saved(tmp_path, 5).folders()
    data = (folder / STATE).read_bytes()
    assert verify(folder)["files"][STATE] == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
