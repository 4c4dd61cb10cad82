"""The verb `train` as a user meets it: real processes, real signals; without Ray."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from PIL import Image

from forks import forkserver
from mlflow_shortcuts import leave_out_courier, new_database
from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.recipes import pixelshuffle
from sisr.terminal import cli

EXIT = {"finished": 0, "config": 2, "data": 3, "diverged": 5, "locked": 6, "stopped": 75}
STEPS, EVALUATE_EVERY = 500, 100


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


def write_config(folder: Path) -> Path:
    path = folder / "tiny.yaml"
    values = recipes.load("pixelshuffle").tiny().model_dump(mode="json")
    path.write_text(yaml.safe_dump(values | {"batch_size": 4, "steps": STEPS}))
    return path


def words(config: Path, *extra: str) -> list[str]:
    options = [f"evaluate_every={EVALUATE_EVERY}", "threads=1", "validation_side=48", "log_every=10"]
    asked = [word for option in options for word in ("--option", option)]
    return ["train", "pixelshuffle", "--config", str(config), "--precision", "fp32", "--name", "test", *asked, *extra]


def command(config: Path, *extra: str) -> list[str]:
    return [sys.executable, "-m", "sisr.terminal.cli", *words(config, *extra)]


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str], no_courier: None) -> Any:
    """Run `sisr train` in this process, which has imported all it needs; return exit code, stdout and stderr."""

    def run(config: Path, *extra: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(words(config, *extra))
        return (end.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> str:
    """The digest of a whole run that nothing disturbed."""
    runs = tmp_path_factory.mktemp("plain")
    plain = words(write_config(runs), "--local", "--runs", str(runs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SISR_CACHE", str(session_cache))
        leave_out_courier(patch)
        with pytest.raises(SystemExit) as end:
            cli.main(plain)
    assert not end.value.code
    return final_digest(runs / "test")


@pytest.fixture
def start() -> Iterator[Any]:
    """Start `sisr train`; what is still alive at the end of the test is ended."""
    started: list[subprocess.Popen[str]] = []
    Path("runs").mkdir()
    new_database(Path("runs"))

    def launch(config: Path, *extra: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        process = subprocess.Popen(command(config, *extra), stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def status() -> dict[str, Any]:
    try:
        return dict(json.loads(Path("runs/test/status.json").read_text()))
    except (OSError, ValueError):
        return {}


def wait_for_step(step: int, process: "subprocess.Popen[str]", timeout_s: float = 180) -> None:
    """Return once the run has passed a step; its process must still be running then."""
    deadline = time.monotonic() + timeout_s
    while status().get("step", 0) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"no step {step} after {timeout_s} s: {status()}"
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it could be disturbed"


def finish(process: "subprocess.Popen[str]", timeout_s: float = 240) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def final_digest(run: Path = Path("runs/test")) -> str:
    return str(json.loads((run / "checkpoints" / f"step_{STEPS:09d}" / "manifest.json").read_text())["digest"])


def test_a_local_run_leaves_model_samples_metrics_and_its_record(config: Path, verb: Any) -> None:
    code, out, err = verb(config, "--local", "--steps", "20", "--json")
    assert code == EXIT["finished"], err
    result = json.loads(out)
    assert (result["state"], result["step"]) == ("finished", 20)
    run = Path("runs/test")
    assert {f.name for f in (run / "model").iterdir()} == {"generator.safetensors", "config.json"}
    assert (run / "samples/val/step_000000020.png").is_file()
    record = json.loads((run / "run.json").read_text())
    assert record["run"]["config"]["steps"] == 20
    assert record["run"]["fingerprint"] == record["data"]["fingerprint"]
    assert "torch" in record["versions"]


@pytest.mark.mlflow
def test_sigterm_saves_and_exits_75_and_the_same_command_goes_on(config: Path, start: Any, undisturbed: str) -> None:
    process = start(config, "--local")
    wait_for_step(250, process)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == EXIT["stopped"], err
    assert "the same command goes on" in err
    stopped_at = status()["step"]
    assert 250 <= stopped_at < STEPS
    assert Path(f"runs/test/checkpoints/step_{stopped_at:09d}/manifest.json").is_file()
    code, _, err = finish(start(config, "--local"))
    assert code == EXIT["finished"], err
    assert final_digest() == undisturbed


@pytest.mark.mlflow
def test_sigterm_waits_only_seconds_for_a_server_that_hangs(
    config: Path, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is taken back gives 30 s; what is at home already is not worth dying for."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = start(config, "--local", "--tracking-uri", f"http://127.0.0.1:{silent.getsockname()[1]}")
        wait_for_step(50, process)
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        code, _, err = finish(process)
    assert code == EXIT["stopped"], err
    assert "`sisr sync" in err
    assert time.monotonic() - asked < 30  # a run that has ended by itself waits for 60


@pytest.mark.mlflow
def test_a_signal_to_all_processes_of_a_run_saves_and_exits_75(config: Path, start: Any) -> None:
    """As Slurm sends it to a step."""
    process = start(config, "--local", "--workers", "2")
    wait_for_step(50, process)
    os.killpg(process.pid, signal.SIGTERM)
    code, _, err = finish(process)
    assert code == EXIT["stopped"], err
    assert Path(f"runs/test/checkpoints/step_{status()['step']:09d}/manifest.json").is_file()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_reaches_no_process_of_rays_and_the_run_saves(
    config: Path, start: Any, how: signal.Signals
) -> None:
    """As `timeout`, systemd, or a terminal that is closed send it."""
    process = start(config, "--address", "local")
    wait_for_step(50, process)
    os.killpg(process.pid, how)
    code, _, err = finish(process)
    assert code == EXIT["stopped"], err
    assert "run test stopped at step" in err
    assert Path(f"runs/test/checkpoints/step_{status()['step']:09d}/manifest.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_terminal_that_hangs_up_saves_and_exits_75(config: Path, workers: str) -> None:
    """As when the connection of `ray submit` or SSH is lost; the signal reaches each of its processes."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which `nohup` before pytest would have switched off
        os.execv(sys.executable, command(config, "--local", "--workers", workers))
    process = psutil.Process(pid)
    while status().get("step", 0) < 50:
        assert process.is_running()
        if select.select([terminal], [], [], 0.02)[0]:
            os.read(terminal, 1 << 16)
    os.close(terminal)
    assert process.wait(timeout=300) == EXIT["stopped"]
    assert status()["state"] == "stopped"


@pytest.mark.slow
def test_a_second_start_of_the_same_run_is_refused_at_once_and_names_the_holder(config: Path, verb: Any) -> None:
    first = forkserver().Process(target=train_slowly, args=(words(config, "--local"),), daemon=True)
    first.start()
    while status().get("step", 0) < 10:
        assert first.is_alive()
        time.sleep(0.02)
    code, _, err = verb(config, "--local")
    assert code == EXIT["locked"]
    assert f"process {first.pid}" in err
    first.kill()
    first.join()
    assert status()["step"] < STEPS
    code, _, err = verb(config, "--local")
    assert code == EXIT["finished"], "a killed holder must not hold on: " + err


def train_slowly(words: list[str]) -> None:
    """Run `sisr train` in this process, with steps that take their time."""
    patch = pytest.MonkeyPatch()
    leave_out_courier(patch)
    step = pixelshuffle.Recipe.train_step

    def slow_step(*given: Any) -> Any:
        time.sleep(0.1)
        return step(*given)

    patch.setattr(pixelshuffle.Recipe, "train_step", slow_step)
    cli.main(words)


def test_a_held_run_is_refused_before_torch_is_imported(tmp_path: Path, config: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise SystemExit('torch was imported')")
    with RunFolder(Path("runs/test")).lock():
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "broken")}
        done = subprocess.run(command(config), capture_output=True, text=True, env=environment)
    assert done.returncode == EXIT["locked"], done.stderr
    assert f"run test is held by process {os.getpid()}" in done.stderr


@pytest.mark.mlflow
@pytest.mark.slow
def test_memory_stays_flat_over_two_thousand_steps(config: Path, start: Any) -> None:
    process = start(config, "--local", "--steps", "2200")
    wait_for_step(200, process)
    early = psutil.Process(process.pid).memory_info().rss
    wait_for_step(2000, process)
    late = psutil.Process(process.pid).memory_info().rss
    assert finish(process)[0] == EXIT["finished"]
    assert late < 1.05 * early


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hopeless_learning_rate_ends_as_diverged_and_says_where(
    config: Path, verb: Any, forked_workers: None, workers: str
) -> None:
    hopeless = ("--set", "learning_rate=1e30", "--set", "zero_last=false", "--workers", workers)
    code, _, err = verb(config, "--local", *hopeless)
    assert code == EXIT["diverged"]
    assert "diverged at step" in err
    assert "Traceback" not in err
    assert status()["state"] == "diverged"


def test_other_settings_under_an_old_name_are_listed_and_refused(config: Path, verb: Any) -> None:
    assert verb(config, "--local", "--steps", "20")[0] == 0
    code, _, err = verb(config, "--local", "--steps", "40", "--set", "learning_rate=3e-4")
    assert code == EXIT["config"]
    assert "learning_rate 0.0002 -> 0.0003" in err
    code, _, err = verb(config, "--local", "--steps", "40")
    assert code == 0, "more steps are not another run: " + err
    assert status()["step"] == 40


def test_images_that_changed_since_are_counted_and_refused(config: Path, verb: Any, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        Image.effect_noise((96, 96), 40 + number).convert("RGB").save(photos / f"{number}.png")
    assert verb(config, "--local", "--steps", "20", "--data", str(photos))[0] == EXIT["finished"]
    (photos / "0.png").unlink()
    Image.effect_noise((96, 96), 90).convert("RGB").save(photos / "new.png")
    code, _, err = verb(config, "--local", "--steps", "40", "--data", str(photos))
    assert code == EXIT["data"]
    assert "+1 -1 ~0 files, e.g. new.png, 0.png" in err
    code, _, err = verb(config, "--local", "--steps", "40", "--data", str(photos), "--allow-changes")
    assert code == EXIT["finished"], err


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (["--set", "learing_rate=1"], "config", "did you mean 'learning_rate'"),
        (["--set", "batch_size=0"], "config", "batch_size wants a whole number"),
        (["--name", "../escape"], "config", "can't be used"),
        (["--data", "no/such/folder"], "data", "no images at 'no/such/folder'"),
        (["--local", "--workers", "3"], "config", "batch_size 4 can't be split equally among 3 workers"),
        (["--local", "--cpus-per-worker", "1"], "config", "--cpus-per-worker has no effect with --local"),
        (["--workers", "8:2"], "config", "--workers 8:2: the least comes first, as in 2:8"),
        (["--workers", "2:5"], "config", "batch_size 4 can't be split among 5 workers"),
        (["--local", "--workers", "1:2"], "config", "--workers 1:2 needs Ray, which --local leaves out"),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_leaves_nothing_behind(
    config: Path, verb: Any, extra: list[str], code: str, message: str
) -> None:
    found, out, err = verb(config, *extra)
    assert (found, out) == (EXIT[code], "")
    assert message in err
    assert len([line for line in err.splitlines() if line.startswith("sisr:")]) == 1
    assert not Path("runs").exists()
