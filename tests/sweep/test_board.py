import io
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import synthetic_sweep as synthetic
from sisr.disk.journal import Journal
from sisr.disk.run_folder import RunFolder
from sisr.errors import ConfigError
from sisr.sweep import state
from sisr.sweep.report import board, live, numbers
from sisr.sweep.report.live import remaining_seconds, remaining_steps
from sisr.terminal import cli
from sisr.terminal import console as texts


def leaderboard(*argv: object) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["leaderboard", *map(str, argv)])
    return int(end.value.code or 0)


SHORT: list[tuple[Any, str]] = [
    (0.0003, "3e-4"),
    (0.00031234, "3.12e-4"),
    (0.05, "0.05"),
    (0.0, "0"),
    (1234.5, "1234"),
    (123456.0, "123456"),
    (-2.5e-7, "-2.5e-7"),
    (16, "16"),
    (True, "true"),
    (None, "null"),
    ([0.9, 0.999], "[0.9, 0.999]"),
]


@pytest.mark.parametrize(("value", "text"), SHORT)
def test_settings_are_as_short_as_three_digits_allow(value: Any, text: str) -> None:
    assert numbers.short(value) == text
    assert not isinstance(value, float) or math.isclose(float(numbers.short(value)), value, rel_tol=5e-3)


def test_trials_that_went_further_stand_above_and_the_lost_ones_at_the_end() -> None:
    synthetic.asha(Path("s"), 24)
    rows = board.rows(state.read(Path("s")))
    ranked = [row for row in rows if row.rank]
    assert [row.rank for row in ranked] == list(range(1, len(ranked) + 1))
    order = [(-row.step, -(row.measured["score"] or 0)) for row in ranked]
    assert order == sorted(order)
    assert {row.state for row in ranked} == {"finished", "pruned"}
    assert {row.state for row in rows[len(ranked) :]} == {"diverged"}
    assert len(rows) == 24


def test_paused_trials_are_pruned_only_once_asha_has_finished() -> None:
    synthetic.asha(Path("s"), 6, finished=False)
    sweep = state.read(Path("s"))
    assert sweep.state == "stopped"
    assert {row.state for row in board.rows(sweep)} <= {"paused", "finished", "diverged"}


def test_a_star_marks_the_trials_that_no_other_beats_in_both_objectives() -> None:
    synthetic.asha(Path("s"), 120, objective=["val/psnr_y", "val/perceptual"], mode=["max", "min"])
    rows = [row for row in board.rows(state.read(Path("s"))) if row.step == synthetic.STEPS]
    points = {row.trial: (row.measured["psnr_y"] or 0, -(row.measured["perceptual"] or 0)) for row in rows}
    beaten = {n for n, p in points.items() for q in points.values() if q != p and q[0] >= p[0] and q[1] >= p[1]}
    assert {row.trial for row in rows if row.pareto} == set(points) - beaten
    assert 0 < len(beaten) < len(points)


def test_a_running_driver_is_seen_at_work_and_a_killed_one_is_not() -> None:
    writer = synthetic.Writer(Path("s"), trials=2)
    writer.trial(0, {"learning_rate": 1e-3})
    writer.row(op="start", trial=0, until=300)
    assert state.read(Path("s")).trials[0].state == "paused"
    journal = Journal(Path("s") / state.LEDGER)
    try:
        seen = state.read(Path("s"))
        assert (seen.state, seen.trials[0].state) == ("running", "running")
        writer.row(op="resume")  # a second attempt has not begun with it yet
        assert state.read(Path("s")).trials[0].state == "paused"
    finally:
        journal.close()


def test_the_table_fits_100_characters_with_many_settings() -> None:
    synthetic.asha(Path("s"), 24)
    sweep = state.read(Path("s"))
    titles, cells = board.table(sweep, board.rows(sweep), 100)
    fixed = [max(len(title), *(len(line[i]) for line in cells)) + 3 for i, title in enumerate(titles[:-1])]
    assert titles[:5] == ["#", "trial", "state", "step", "score"]
    assert sum(fixed) <= 100 - board.SETTINGS_WIDTH
    wide, _ = board.table(sweep, board.rows(sweep), 1000)
    assert set(wide) > set(titles)


def test_the_trials_folder_is_where_training_writes() -> None:
    synthetic.asha(Path("s"), 1, pictures=1)
    sweep = state.read(Path("s"))
    run_folder = RunFolder(Path("s/trials/0000"))
    assert state.folder_of(Path("s"), sweep.trials[0]).status() == run_folder.status() != {}
    assert state.baseline(Path("s"), sweep) == {"val/psnr_y": 25.0, "val/ssim_y": 0.7}


@pytest.mark.parametrize("damage", ["", "[]", "{", "null"])
def test_a_status_that_is_being_written_is_no_error(damage: str) -> None:
    synthetic.asha(Path("s"), 1, pictures=1)
    Path("s/trials/0000/status.json").write_text(damage)
    assert state.folder_of(Path("s"), state.read(Path("s")).trials[0]).status() == {}


def test_the_verb_prints_a_table_and_why_trials_were_lost(capsys: pytest.CaptureFixture[str]) -> None:
    synthetic.asha(Path("runs/mine"), 24)
    assert leaderboard("mine", "--top", 24) == 0
    shown = capsys.readouterr().out
    assert "sweep mine (srgan_gp; val/score max): finished; " in shown
    assert "learning_rate=" in shown
    assert "diverged: loss is not finite <script>" in shown
    assert leaderboard("mine", "--top", 2) == 0
    assert "2 of 24 trials; --top shows more" in capsys.readouterr().out


def test_the_verb_prints_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    synthetic.asha(Path("runs/mine"), 24)
    assert leaderboard("mine", "--json", "--top", 3) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["rank"] for row in told["trials"]] == [1, 2, 3]
    assert told["trials"][0]["trial"] == told["best"]
    assert told["trials"][0]["psnr_y"] > 25
    assert sum(told["counts"].values()) == 24


def test_the_verb_shows_a_sweep_that_has_only_begun(capsys: pytest.CaptureFixture[str]) -> None:
    synthetic.Writer(Path("runs/young"))
    assert leaderboard("young") == 0
    assert "no trial" in capsys.readouterr().out


def test_an_unknown_sweep_is_an_error_that_suggests_and_a_run_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    synthetic.asha(Path("runs/mine"), 1, pictures=1)
    assert leaderboard("mien") == 2
    assert "no sweep 'mien' in runs, and no folder of that name; did you mean 'mine'?" in capsys.readouterr().err
    assert leaderboard("runs/mine/trials/0000") == 2
    assert "is one run and no sweep" in capsys.readouterr().err


@pytest.mark.slow
def test_a_leaderboard_of_200_trials_loads_nothing_heavy() -> None:
    synthetic.asha(Path("runs/big"), 200)
    program = (
        "import sys\n"
        "from sisr.terminal.cli import main\n"
        "try: main(['leaderboard', 'big'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "print(*heavy, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert "20 of 200 trials" in done.stdout
    assert done.stderr.split() == []


def captured(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.StringIO:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=100, soft_wrap=True, highlight=False)
    for module in (live, texts):
        monkeypatch.setattr(module, "err", console)
    return shown


def test_in_a_pipe_each_end_and_each_new_best_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = captured(monkeypatch, terminal=False)
    writer = synthetic.Writer(Path("s"), trials=2)
    sweep = state.Sweep(writer.plan)
    with live.SweepDisplay(Path("s"), sweep) as display:
        sweep.apply({"op": "trial", "trial": 0, "params": {"learning_rate": 3e-4}})
        sweep.apply({"op": "start", "trial": 0, "until": 300})
        display.refresh()
        assert shown.getvalue() == ""
        end = {"op": "end", "trial": 0, "state": "paused", "step": 300, "seconds": 9}
        sweep.apply({**end, "curve": [[300, {"val/score": 1.0, "val/psnr_y": 26.0}]]})
        display.refresh()
        display.refresh()
        sweep.apply({"op": "trial", "trial": 1, "params": {"learning_rate": 1.0}})
        sweep.apply({"op": "end", "trial": 1, "state": "diverged", "step": 20, "message": "[b]loss\nis NaN"})
    assert shown.getvalue().splitlines() == [
        "trial 0, score 1.000 at step 300: learning_rate=3e-4 (paused, 9 s)",
        "best of those furthest on: trial 0, score 1.000 at step 300: learning_rate=3e-4",
        "trial 1 diverged at step 20: [b]loss is NaN (learning_rate=1)",
    ]


def test_a_terminal_shows_running_trials_with_what_they_measured_last(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = captured(monkeypatch, terminal=True)
    writer = synthetic.Writer(Path("s"), trials=24)
    sweep = state.Sweep(writer.plan)
    sweep.apply({"op": "trial", "trial": 0, "params": {"learning_rate": 3e-4}})
    sweep.apply({"op": "start", "trial": 0, "until": 300})
    folder = writer.run_folder(0, [0])
    folder.write_status(state="running", step=120, validation={"val/score": 0.4321})
    with live.SweepDisplay(Path("s"), sweep):
        pass
    text = " ".join(shown.getvalue().split())
    assert "sweep s: 1 running, 23 to come" in text
    assert "120/300" in text
    assert "0.432" in text
    assert "learning_rate=3e-4" in text


def test_a_refresh_of_200_trials_reads_the_status_of_those_that_run_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captured(monkeypatch, terminal=True)
    synthetic.asha(Path("s"), 200, pictures=8, finished=False)
    sweep = state.read(Path("s"))
    for trial in sweep.trials[:8]:
        trial.state = "running"
    sweep.state = "running"
    with live.SweepDisplay(Path("s"), sweep) as display:
        display.refresh()
        opened = files_opened_by(display.refresh)
    assert opened == [f"s/trials/{trial.name}/status.json" for trial in sweep.trials[:8]]


def files_opened_by(work: Callable[[], None]) -> list[str]:
    """Return the files that some work opens in this thread, as Python's own audit tells of them; a hook stays."""
    opened: list[str] = []
    thread, listening = threading.get_ident(), True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if listening and event == "open" and threading.get_ident() == thread:
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    work()
    listening = False
    return opened


def test_time_left_is_the_steps_left_at_the_measured_speed_and_width() -> None:
    sweep = state.Sweep(synthetic.Writer(Path("s"), trials=4, scheduler="none", steps=100).plan)
    for number in range(3):
        sweep.apply({"op": "trial", "trial": number, "params": {}})
    sweep.apply({"op": "end", "trial": 0, "state": "finished", "step": 100, "seconds": 50, "curve": []})
    assert remaining_seconds(sweep, {}) is None
    for number in (1, 2):
        sweep.apply({"op": "start", "trial": number, "until": 100})
    assert remaining_steps(sweep, {1: 40}) == 60 + 100 + 100
    assert remaining_seconds(sweep, {1: 40}) == 260 * 0.5 / 2


def test_asha_is_expected_to_send_a_third_on_from_each_rung() -> None:
    sweep = state.Sweep(synthetic.Writer(Path("s"), trials=9).plan)
    assert remaining_steps(sweep, {}) == 9 * 300 + 3 * 600 + 1 * 1800


def test_no_steps_are_left_when_all_trials_have_ended() -> None:
    sweep = state.Sweep(synthetic.Writer(Path("s"), trials=2, scheduler="none", steps=100).plan)
    for number, end, step in ((0, "finished", 100), (1, "diverged", 30)):
        sweep.apply({"op": "trial", "trial": number, "params": {}})
        sweep.apply({"op": "end", "trial": number, "state": end, "step": step})
    assert remaining_steps(sweep, {}) == 0


def test_a_folder_without_a_sweep_is_an_error() -> None:
    os.mkdir("empty")
    with pytest.raises(ConfigError, match="empty holds no sweep"):
        state.read(Path("empty"))
