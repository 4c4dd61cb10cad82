import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sisr.disk.journal import rows
from sisr.disk.run_folder import RunFolder
from sisr.driver.run import execute, record
from sisr.storage.address import runs_folder
from sisr.terminal import console, displays
from sisr.tracking import outbox
from sisr.training.run import Options, Run

STATUS = {
    "state": "running",
    "step": 1200,
    "steps": 100_000,
    "images_per_second": 88.7,
    "eta_s": 7500,
    "data_wait_share": 0.01,
    "losses": {"generator/pixel": 0.03189, "generator/adversarial": 1.25},
    "validation": {"val/psnr_y": 27.05, "val/ssim_y": 0.7756},
    "validation_step": 1000,
    "baseline": {"psnr_y": 27.1},
}


class Folder(RunFolder):
    """A run's folder that stands still."""

    def status(self) -> dict[str, object]:
        """Return what stands in it."""
        return STATUS


def test_a_narrow_terminal_shows_losses_and_validation_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=60, soft_wrap=True, highlight=False)
    for module in (displays, console):
        monkeypatch.setattr(module, "err", terminal)
    with displays.Display(Folder(tmp_path)):
        pass
    lines = [line.strip() for line in shown.getvalue().splitlines()]
    assert "generator/pixel 0.03189 | generator/adversarial 1.25" in lines
    assert any("2 h 05 min left" in line for line in lines)
    assert shown.getvalue().count("27.05 dB PSNR-Y") >= 2  # its own line, and the live one


def test_a_log_gets_lines_of_80_columns_that_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Long(Folder):
        def status(self) -> dict[str, object]:
            further = {
                "val/vgg_relu3_1": 5.21,
                "val/dists": 0.1234,
                "val/niqe": 4.321,
                "val/fid": 87.65,
                "val/score": 0.3,
            }
            return STATUS | {"validation": {**STATUS["validation"], **further}}  # type: ignore[dict-item]

    shown = displays.Display(Long(tmp_path))
    shown.refresh()
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= 80
    told = " ".join(line.strip() for line in lines)
    for words in (*displays.parts(Long(tmp_path).status())[:5], "fid 87.65, score +0.300"):
        assert words in told
    assert told.count("27.05 dB PSNR-Y") == 1


FINISHED = STATUS | {
    "run": "r1",
    "folder": "runs/r1",
    "state": "finished",
    "step": 2000,
    "validation": {"val/psnr_y": 27.05, "val/ssim_y": 0.7756, "val/swd": 61.25, "val/score": 0.312},
    "baseline": {"psnr_y": 27.1, "ssim_y": 0.78, "swd": 95.0},
    "protocol": "Y|crop=scale|swd",
}


def test_the_summary_shows_every_measure_beside_bicubics() -> None:
    assert execute.summary(FINISHED).splitlines() == [
        "run r1 finished at step 2,000",
        "held-out images: 27.05 dB PSNR-Y, 0.7756 SSIM-Y, swd 61.2, score +0.312",
        "bicubic:         27.10 dB PSNR-Y, 0.7800 SSIM-Y, swd 95.0",
        "measured on luma, without a border of `scale` px, SWD",
        "model: runs/r1/model    samples: runs/r1/samples",
    ]


def test_the_summary_of_a_run_in_object_storage_names_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SISR_CACHE", str(tmp_path))
    last = execute.summary(FINISHED | {"folder": str(runs_folder("s3://bucket/runs") / "r1")}).splitlines()[-1]
    assert last == "model: s3://bucket/runs/r1/model    samples: s3://bucket/runs/r1/samples"


def test_the_summary_names_an_earlier_checkpoint_only_if_it_was_better_by_what_counts() -> None:
    better_psnr = {"step": 1500, "val/psnr_y": 28.0, "val/ssim_y": 0.79, "val/swd": 80.0, "val/score": 0.2}
    by_score = FINISHED | {"best": better_psnr | {"by": "val/score"}}
    assert "earlier" not in execute.summary(by_score)
    by_psnr = execute.summary(FINISHED | {"best": better_psnr})  # as older versions wrote it
    assert by_psnr.endswith(
        "an earlier checkpoint was better: 28.00 dB PSNR-Y, 0.7900 SSIM-Y, swd 80.0, score +0.200 at step 1,500 (kept)"
    )


def test_bicubics_values_are_shown_once_and_each_evaluation_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    display = displays.Display(folder)
    for step in (1000, 2000):
        folder.write_status(**FINISHED | {"validation_step": step})
        display.refresh()
    assert capsys.readouterr().err.splitlines() == [
        "held-out images, by bicubic: 27.10 dB PSNR-Y, 0.7800 SSIM-Y, swd 95.0",
        "step 1,000: 27.05 dB PSNR-Y, 0.7756 SSIM-Y, swd 61.2, score +0.312",
        "step 2,000: 27.05 dB PSNR-Y, 0.7756 SSIM-Y, swd 61.2, score +0.312",
    ]


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_a_run_that_ended_before_its_first_step_has_no_progress_to_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(displays, "err", Console(file=io.StringIO(), force_terminal=True, width=60))
    folder = RunFolder(tmp_path)
    with displays.Display(folder) as display:
        folder.write_status(state=state, message="2 workers x 9 CPU can't fit")
        display.refresh()
    with displays.Display(folder):  # the same command again
        pass


def test_a_run_that_was_asked_to_stop_is_saving_and_has_no_time_left() -> None:
    assert displays.parts(STATUS, saving=True)[:2] == ["step 1,200/100,000", "saving"]
    assert "left" not in " ".join(displays.parts(STATUS | {"state": "stopped", "eta_s": 0.0}))


def test_a_terminal_says_that_it_saves_as_soon_as_it_was_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=80, soft_wrap=True, highlight=False)
    for module in (displays, console):
        monkeypatch.setattr(module, "err", terminal)
    folder = Folder(tmp_path)
    with displays.Display(folder) as display:
        display.refresh()
        folder.request_stop()
    assert "step 1,200/100,000 | saving" in shown.getvalue()


def test_the_estimate_warns_of_a_length_that_cant_be_meant_and_says_what_an_hour_holds() -> None:
    found = {"step": 10, "seconds": 3900.0, "memory_bytes": 3 * 2**29}
    assert displays.estimate(STATUS | {"steps": 400_000, "estimate": found}) == (
        "after 10 steps: about 1 h 05 min of training left, 1.5 GiB of memory"
    )
    found["seconds"] = 399_990 * 36.0  # a hundred steps an hour
    assert displays.estimate(STATUS | {"steps": 400_000, "estimate": found}, "; so") == (
        "warning: after 10 steps: the other 399,990 will take about 166 days here, and 1.5 GiB of memory. "
        "--steps 100 take an hour; so"
    )


def test_a_line_of_parts_breaks_between_them_only() -> None:
    assert console.joined(["step 1/9", "2 min 33 s left", "45.9 images/s"], 30) == (
        "step 1/9 | 2 min 33 s left\n  45.9 images/s"
    )


def test_a_note_on_a_terminal_breaks_between_words_and_never_inside_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=20, soft_wrap=True, highlight=False)
    monkeypatch.setattr(console, "err", terminal)
    console.note("a few words and runs/a/long/path/that/is/copied here")
    assert [line.rstrip() for line in shown.getvalue().splitlines()] == [
        "a few words and",
        "  runs/a/long/path/that/is/copied",
        "  here",
    ]


def test_a_result_on_a_terminal_breaks_between_words_and_in_a_pipe_nowhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "  label  a few words, and more of them"
    console.write(text)
    assert capsys.readouterr().out == f"{text}\n"
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=20, soft_wrap=True, highlight=False)
    monkeypatch.setattr(console, "out", terminal)
    console.write(text, hanging=7)
    assert [line.rstrip() for line in shown.getvalue().splitlines()] == [
        "  label  a few",
        "         words, and",
        "         more of",
        "         them",
    ]


def test_a_bar_comes_with_the_first_progress_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=80, highlight=False)
    monkeypatch.setattr(console, "err", terminal)
    with console.progress("packing", 3):
        pass
    assert shown.getvalue() == ""
    with console.progress("packing", 3) as advance:
        advance(3)
    assert "3/3" in shown.getvalue()


def test_what_comes_before_the_first_step_is_announced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(displays, "SAID_AFTER_S", 0.0)
    folder = RunFolder(tmp_path)
    folder.write_status(state="stopped", step=7, steps=9)  # of an earlier attempt
    display = displays.Display(folder)
    started = {"state": "running", "step": 0, "steps": 9, "baseline": {"psnr_y": 27.1}}
    for status in (None, None, started, started, started | {"validation": {"val/psnr_y": 27.0}, "validation_step": 0}):
        if status:
            folder.write_status(**status)
        display.refresh()
    said = capsys.readouterr().err
    assert [line for line in said.splitlines() if line.endswith("...")] == [
        "starting the workers ...",
        "validating for the first time ...",
    ]


def test_what_an_earlier_attempt_has_estimated_and_measured_is_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, old = RunFolder(tmp_path), {"step": 5, "seconds": 60.0, "memory_bytes": 2**30}
    folder.write_status(**FINISHED | {"state": "stopped", "estimate": old})
    display = displays.Display(folder)
    folder.write_status(**FINISHED | {"state": "crashed", "estimate": old})  # before it has done anything
    display.refresh()
    assert capsys.readouterr().err == ""
    folder.write_status(**FINISHED | {"state": "running", "estimate": old})
    display.refresh()
    said = capsys.readouterr().err
    assert "of training left" not in said
    assert "step 1,000: 27.05 dB PSNR-Y" in said  # where it goes on
    folder.write_status(**FINISHED | {"state": "running", "estimate": old | {"step": 17}})
    display.refresh()
    assert "after 17 steps: about 1 min 00 s of training left" in capsys.readouterr().err


def test_every_validated_metric_becomes_a_final_one(tmp_path: Path) -> None:
    run = Run(name="r1", recipe="srez", config={}, options=Options(), data="demo")
    record.close(run, RunFolder(tmp_path), {**FINISHED, "state": "stopped"})
    tags: dict[str, str] = {}
    for row, _ in rows(tmp_path / outbox.FILE):
        assert row
        assert row["op"] != "metrics", "MLflow would draw a chart of each"
        tags |= row["values"] if row["op"] == "tags" else {}
    final = {"psnr_y": 27.05, "ssim_y": 0.7756, "swd": 61.25, "score": 0.312}
    assert json.loads(tags[outbox.FINAL]) == final
    assert tags[outbox.ENDED] == "stopped at step 2,000"


@pytest.mark.parametrize(("first", "said"), [(0.5, True), (0.325, False), (0.1, False)])
def test_a_run_that_has_only_lost_what_it_began_with_says_so(tmp_path: Path, first: float, said: bool) -> None:
    RunFolder(tmp_path).add_evaluation(0, {"val/psnr_y": 27.0, "val/ssim_y": 0.77, "val/swd": 60.0, "val/score": first})
    best = {"step": 1500, "by": "val/score", **FINISHED["validation"]}  # type: ignore[dict-item]
    told = execute.summary(FINISHED | {"folder": str(tmp_path), "best": best}).splitlines()[-1]
    assert told.startswith("what it began with was better: 27.00 dB PSNR-Y") == said
