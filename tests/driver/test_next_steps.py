import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from sisr.driver import next_steps
from sisr.storage.address import runs_folder


def finished(folder: Path, held_out: int, status: dict[str, Any] | None = None, **run: Any) -> list[list[str]]:
    folder.mkdir(parents=True)
    run = {"recipe": "srez", "config": {"steps": 300}, "data": "demo", "validation": None, **run}
    (folder / "run.json").write_text(json.dumps({"run": run, "data": {"held_out_of": held_out}}))
    (folder / "status.json").write_text(json.dumps(status or {}))
    return [shlex.split(command) for _, command in next_steps.after_run(folder)]


def test_every_command_names_run_images_and_the_folder_of_runs(tmp_path: Path) -> None:
    runs = tmp_path / "my runs"
    photos = "/photos of mine"
    for words in finished(runs / "mine", 9, data="/train", validation=photos):
        assert words[-2:] == ["--runs", str(runs)]
        assert "mine" in words
        assert words[1] not in ("compare", "register") or words[words.index("--data") + 1] == photos


def test_a_model_is_compared_where_two_images_were_held_out(tmp_path: Path) -> None:
    assert "compare" not in [words[1] for words in finished(tmp_path / "a", 1, data="/train")]
    assert "compare" in [words[1] for words in finished(tmp_path / "b", 2, data="/train")]


@pytest.mark.parametrize(
    ("values", "by", "verbs"),
    [
        ({"val/psnr_y": 27.0, "val/score": -0.1}, "val/score", ["train", "compare", "serve"]),
        ({"val/psnr_y": 27.0, "val/score": 0.1}, "val/score", ["compare", "register", "serve"]),
        ({"val/psnr_y": 27.0, "val/score": 0.1}, "val/psnr_y", ["train", "compare", "serve"]),
        ({"val/psnr_y": 29.0, "val/score": -0.1}, "val/psnr_y", ["compare", "register", "serve"]),
    ],
)
def test_a_model_that_is_no_better_than_bicubic_is_trained_on_before_it_is_registered(
    tmp_path: Path, values: dict[str, float], by: str, verbs: list[str]
) -> None:
    status = {"validation": values, "best": {"by": by}, "baseline": {"psnr_y": 28.0}}
    words = finished(tmp_path / "mine", 9, status)
    assert [each[1] for each in words] == verbs
    if verbs[0] == "train":
        assert words[0][2:8] == ["--from", "mine", "--name", "mine", "--steps", "600"]


def test_what_the_gate_would_refuse_for_too_few_images_is_not_suggested(tmp_path: Path) -> None:
    assert "register" not in [words[1] for words in finished(tmp_path / "a", 5)]
    assert "register" in [words[1] for words in finished(tmp_path / "b", 6)]


def test_images_at_an_address_are_not_read_as_files(tmp_path: Path) -> None:
    verbs = [words[1] for words in finished(tmp_path / "a", 9, data="s3://bucket/photos")]
    assert verbs == ["serve", "animate"]


def test_a_run_in_object_storage_is_brought_home_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISR_CACHE", str(tmp_path))
    (home, *_) = finished(runs_folder("s3://bucket/runs") / "mine", 9)
    assert home == ["sisr", "pull", "s3://bucket/runs/mine", "mine"]
    assert "pull" not in [words[1] for words in finished(tmp_path / "elsewhere", 9)]


def test_a_damaged_record_suggests_nothing(tmp_path: Path) -> None:
    assert next_steps.after_run(tmp_path) == []


def test_commands_of_the_default_folder_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    next_steps.show(next_steps.after_registration({"model": "srez"}, Path("runs")))
    assert capsys.readouterr().err == "try it:  sisr serve models:/srez@champion\n"


def test_what_was_evaluated_is_looked_at_registered_and_served_where_it_is_a_model_of_ours(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.json").write_text("{}")
    rest = next_steps.judged_by("/p", "auto"), tmp_path
    found = next_steps.after_evaluation(["mine", "bicubic"], "mine", *rest)
    assert [typed.split()[1] for _, typed in found] == ["compare", "register", "serve"]
    assert "register" not in [typed.split()[1] for _, typed in next_steps.after_evaluation(["mine"], "", *rest)]
    assert next_steps.after_evaluation(["bicubic", "other.pth"], "", *rest) == []
    _, looked_at = next_steps.after_evaluation(["mine", "models:/x@champion"], "", *rest)[0]
    assert looked_at == f"sisr compare mine models:/x@champion bicubic --data /p --runs {tmp_path}"


def test_the_next_command_judges_by_the_same_distance() -> None:
    judged = next_steps.judged_by("p", "vgg.pth")
    ((purpose, typed),) = next_steps.after_comparison("mine", "score", judged, Path("runs"))
    assert purpose == "register the best by score"
    assert typed == "sisr register mine --data p --perceptual vgg.pth"


def test_the_best_run_of_an_experiment_is_registered_by_its_id() -> None:
    ((_, typed),) = next_steps.after_comparison("runs:/0123", "score", ["--data", "p"], Path("runs"))
    assert typed == "sisr register 0123 --data p"


def test_what_was_enlarged_by_bicubic_leads_nowhere() -> None:
    assert next_steps.after_upscaling(Path("a.png"), "bicubic", False, Path("runs")) == []
    (_, beside), _ = next_steps.after_upscaling(Path("my photo.png"), "mine", False, Path("runs"))
    assert shlex.split(beside)[1:3] == ["upscale", "my photo.png"]


def test_packed_images_are_trained_on_with_those_held_out_for_them() -> None:
    (_, train), _ = next_steps.after_packing("photos", "others")
    assert shlex.split(train)[3:7] == ["--data", "photos", "--validation", "others"]


def test_a_run_that_was_stopped_goes_on_by_its_own_record(tmp_path: Path) -> None:
    ((_, typed),) = next_steps.to_go_on(tmp_path / "mine")
    assert typed == f"sisr train --from mine --name mine --runs {tmp_path}"


def test_a_shell_that_does_not_know_sisr_is_told_what_to_type_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (folder := tmp_path / ".venv" / "bin").mkdir(parents=True)
    (folder / "activate").touch()
    (folder / "sisr").write_text("#!/bin/sh\n")
    (folder / "sisr").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(folder / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert next_steps.to_find_sisr() == [("first", ". .venv/bin/activate")]
    monkeypatch.chdir(folder)
    assert next_steps.to_find_sisr() == [("first", ". activate")]
    monkeypatch.setenv("PATH", str(folder))
    assert next_steps.to_find_sisr() == []
