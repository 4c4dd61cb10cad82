"""From runs to a chosen model: real training, a real MLflow server over HTTP, real processes that race."""

import json
import os
import re
import shutil
import subprocess
import urllib.request
import venv
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image

from forks import forkserver
from sisr.driver.register import summary
from sisr.errors import ConfigError
from sisr.inference.tiled import upscale
from sisr.models import model
from sisr.models.model import load_model
from sisr.terminal import cli
from sisr.tracking import address
from sisr.tracking.outbox import Outbox
from trained_runs import QUALITY, Place

pytestmark = pytest.mark.mlflow


@pytest.fixture
def client(place: Place) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(place.url, registry_uri=place.url)


@pytest.fixture
def register(place: Place, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    """Run the verb; return exit code, JSON and what was said on stderr."""

    def run(*words: object) -> tuple[int, Any, str]:
        fixed = ["--runs", place.runs, "--tracking-uri", place.url, "--json"]
        data = [] if {"--rollback", "--data"} & set(words) else ["--data", place.images]
        with pytest.raises(SystemExit) as end:
            cli.main(["register", *map(str, [*words, *data, *fixed])])
        said = capsys.readouterr()
        return int(end.value.code or 0), json.loads(said.out) if said.out else None, said.err

    return run


def aliases(client: Any, name: str) -> dict[str, str]:
    return dict(client.get_registered_model(name).aliases)


@pytest.mark.slow
def test_the_story_of_a_registered_model(place, client, register, tmp_path):
    code, first, _ = register("worse", "--data-licence", "CC0, drawn by a test")
    assert (code, first["state"], aliases(client, "pixelshuffle")) == (0, "registered", {"champion": "1"})

    code, second, _ = register("--experiment", "boards")  # finds the better one by itself
    assert (code, second["run"], second["previous"]) == (0, "better", "1")
    assert aliases(client, "pixelshuffle") == {"champion": "2", "previous": "1"}

    code, _, said = register("worse")
    assert code == 7
    assert re.search(r"champion \(version 2\): worse: psnr_y -0\.\d+ dB \[-0\.\d+, -0\.\d+\]", said)
    assert aliases(client, "pixelshuffle") == {"champion": "2", "previous": "1"}
    assert len(client.search_model_versions("name = 'pixelshuffle'")) == 2

    code, result, _ = register("--rollback")
    assert (code, result["version"]) == (0, "1")
    assert aliases(client, "pixelshuffle") == {"champion": "1", "previous": "2"}
    assert register("--rollback")[0] == 0
    assert aliases(client, "pixelshuffle") == {"champion": "2", "previous": "1"}

    code, result, _ = register("better")
    assert (code, result["state"]) == (0, "champion already")
    assert "nothing was measured" in summary(result)

    check_page(client)
    check_card(place, client, first)
    check_elsewhere(place, client, tmp_path)


def check_page(client):
    """What MLflow's page arranges by: run names, groups of metrics, and image keys and steps that line up."""
    experiment = client.get_experiment_by_name("boards")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    found = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in found} == set(QUALITY)
    shown = []
    for run in found:
        groups = {name.partition("/")[0] for name in run.data.metrics if "/" in name}
        assert groups >= {"val", "generator"}
        own = [name for name in run.data.metrics if not name.startswith("system/")]  # these have a page of their own
        curves = [len(client.get_metric_history(run.info.run_id, name)) for name in own]
        assert min(curves) > 1, "MLflow draws a chart of each metric, also where it is one value"
        assert run.data.tags["sisr.recipe"] == "pixelshuffle"
        keys = [Path(f.path).name.split("+")[:3] for f in client.list_artifacts(run.info.run_id, "images")]
        shown.append({(key, int(step)) for key, _, step in keys})
    assert shown[0] & shown[1] == {("val~samples", 0), ("val~samples", 50)}


def check_card(place, client, first):
    version = client.get_model_version("pixelshuffle", "1")
    text = version.description
    run = client.get_run(version.run_id)
    for fact in (
        "recipe pixelshuffle",
        "CC0, drawn by a test",
        first["protocol"],
        first["tests"][2]["finding"],
        version.run_id,
        json.loads((place.runs / "worse" / "run.json").read_text())["run"]["fingerprint"],
        run.data.tags["mlflow.source.git.commit"],
        '"num_hr_features": 12',
    ):
        assert fact in text
    picture = re.search(r"!\[.*\]\((.*)\)", text)
    assert picture
    shown = sorted((place.runs / "worse" / "samples" / "val").glob("*.png"))[-1].read_bytes()
    with urllib.request.urlopen(f"{place.url}/{picture[1]}", timeout=120) as answer:
        assert answer.read() == shown
    assert version.tags["sisr.data_licence"] == "CC0, drawn by a test"
    assert json.loads(version.tags["sisr.sha256"])["generator.safetensors"] in text


def check_elsewhere(place, client, tmp_path):
    """Load the champion where only its listed requirements are installed, and compare with the run's own model."""
    requirements = requirements_of(client, place)
    python = fresh_environment(tmp_path / "elsewhere", requirements)
    lr = np.random.default_rng(0).integers(0, 256, (3, 13, 22, 3), dtype=np.uint8)
    np.save(tmp_path / "lr.npy", lr)
    Image.fromarray(lr[0]).save(tmp_path / "lr.png")
    Image.fromarray(lr[1]).save(tmp_path / "lr.jpg")
    program = (
        "import importlib.util, sys, numpy as np; assert importlib.util.find_spec('sisr') is None\n"
        "import mlflow; model = mlflow.pyfunc.load_model('models:/pixelshuffle@champion')\n"
        "np.save('sr.npy', model.predict(np.load('lr.npy')))\n"
        "open('sr.png', 'wb').write(model.predict(open('lr.png', 'rb').read()))\n"
        "pngs = model.predict([open(name, 'rb').read() for name in ('lr.jpg', 'lr.png')])\n"
        "open('sr_of_jpg.png', 'wb').write(pngs[0]); assert pngs[1] == open('sr.png', 'rb').read()\n"
        "import sisr; print(sisr.__file__)"
    )
    variables = {
        "MLFLOW_TRACKING_URI": place.url,
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [python, "-c", program], cwd=tmp_path, env=variables | address.ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "sisr" in done.stdout
    assert not done.stdout.startswith(str(Path(model.__file__).parent))
    generator = load_model(place.runs / "better" / "model").generator
    assert grey_levels(np.load(tmp_path / "sr.npy"), expected(generator, lr)) <= 1
    assert grey_levels(pixels(tmp_path / "sr.png"), expected(generator, lr[:1])[0]) <= 1
    assert (
        grey_levels(pixels(tmp_path / "sr_of_jpg.png"), expected(generator, pixels(tmp_path / "lr.jpg")[None])[0]) <= 1
    )


def expected(generator, lr):
    sr = upscale(generator, torch.from_numpy(lr).permute(0, 3, 1, 2).float() / 255)
    return (sr.clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy()


def pixels(path):
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def grey_levels(found, wanted):
    assert found.shape == wanted.shape
    return np.abs(found.astype(float) - wanted).max()


def requirements_of(client, place):
    model_id = client.get_model_version_by_alias("pixelshuffle", "champion").source.removeprefix("models:/")
    (listed,) = place.artifacts.rglob(f"{model_id}/artifacts/requirements.txt")
    return listed.read_text().splitlines()


def fresh_environment(folder: Path, requirements: list[str]) -> Path:
    """Return the Python of a new virtual environment that holds the listed distributions and what they bring with them.

    Installing them anew would download gigabytes of torch; so their files are linked from this environment, found by
    the metadata that an installer would follow. Nothing else of this environment can be imported there.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in closure(requirements):
        installed = metadata.distribution(name)
        for top in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(installed.locate_file(top))).resolve())
    return folder / "bin" / "python"


def closure(requirements: list[str]) -> set[str]:
    found: set[str] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        extras = ["", *requirement.extras]
        if requirement.name in found and not requirement.extras:
            continue
        assert requirement.specifier.contains(metadata.version(requirement.name).split("+")[0], prereleases=True)
        found.add(requirement.name)
        needed = [Requirement(line) for line in metadata.requires(requirement.name) or ()]
        waiting += [n for n in needed if n.marker is None or any(n.marker.evaluate({"extra": e}) for e in extras)]
    return found


def test_a_forced_registration_says_so(client, register):
    assert register("better", "--model-name", "forced")[0] == 0
    code, result, _ = register("worse", "--model-name", "forced", "--force", "smaller, for phones")
    assert (code, result["state"]) == (0, "forced")
    assert [test["passed"] for test in result["tests"]] == [True, True, True, True, False]
    version = client.get_model_version_by_alias("forced", "champion")
    assert version.tags["sisr.forced"] == "smaller, for phones"
    assert "by force although the gate refused it: smaller, for phones" in version.description
    assert "FAILED; worse: psnr_y" in version.description


def test_a_rollback_without_a_previous_champion_is_refused(register):
    assert register("worse", "--model-name", "single")[0] == 0
    code, _, said = register("--rollback", "--model-name", "single")
    assert code == 2
    assert "champion is version 1, and no version was champion before" in said
    code, _, said = register("--rollback", "--model-name", "nobody")
    assert code == 2
    assert "no registered model 'nobody' with a champion; there are" in said


def test_a_champion_that_was_registered_by_other_means_is_compared_all_the_same(place, client, register):
    run_id = json.loads((place.runs / "better" / "mlflow.json").read_text())["run_id"]
    (model,) = client.get_run(run_id).outputs.model_outputs
    client.create_registered_model("byhand")
    client.create_model_version("byhand", f"models:/{model.model_id}", run_id, model_id=model.model_id)
    client.set_registered_model_alias("byhand", "champion", "1")
    code, _, said = register("worse", "--model-name", "byhand")
    assert code == 7
    assert "champion (version 1): worse" in said


@pytest.mark.parametrize("where", ["the run's folder", "MLflow"])
def test_damaged_files_are_refused_even_by_force(place, register, where):
    if where == "MLflow":
        run = json.loads((place.runs / "worse" / "mlflow.json").read_text())["run_id"]
        stored = place.artifacts.rglob("artifacts/artifacts/model/generator.safetensors")
        (file,) = [path for path in stored if run in (path.parents[2] / "MLmodel").read_text()]
    else:
        file = place.runs / "worse" / "model" / "generator.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        code, _, said = register("worse", "--model-name", "damaged", "--force", "I insist")
    finally:
        file.write_bytes(whole)
    assert code == 4
    assert re.search(r"SHA-256 of generator\.safetensors is \w{12}\.\.\., but by .* it is \w{12}\.\.\.", said)


def test_images_that_a_run_was_trained_on_do_not_decide(place, register):
    """Of the run's own folder only the held-out images are measured: a tenth of 24, so 2, which are too few."""
    code, result, said = register("better", "--model-name", "own", "--data", place.runs.parent / "train")
    assert (code, result["state"], result["images"]) == (7, "refused", 2)
    assert result["data"].endswith("train (held-out images)")
    assert "number of images: 2 are too few" in said
    assert "from the others of" in said, "why there are only 2"


def test_images_that_a_run_was_trained_on_are_known_by_their_content(place, register, tmp_path):
    (tmp_path / "others").mkdir()
    for i, path in enumerate([*sorted((place.runs.parent / "train").iterdir())[:8], *place.images.iterdir()]):
        shutil.copy(path, tmp_path / "others" / f"renamed_{i}.png")
    code, result, said = register("better", "--model-name", "seen", "--data", tmp_path / "others")
    assert (code, result["state"]) == (7, "refused")
    assert re.search(r"images: it was trained on [678] of these 16 images: renamed_\d", said)


def test_what_a_model_was_trained_on_is_known_of_a_run_on_another_machine(place, register, tmp_path, client):
    """Its folder is not here, so the hashes come from MLflow."""
    run_id = json.loads((place.runs / "better" / "mlflow.json").read_text())["run_id"]
    client.set_tag(run_id, "sisr.folder", "/not/on/this/machine")
    (tmp_path / "others").mkdir()
    for path in sorted((place.runs.parent / "train").iterdir())[:8]:
        shutil.copy(path, tmp_path / "others")
    try:
        code, _, said = register(run_id, "--model-name", "seen", "--data", tmp_path / "others")
    finally:
        client.set_tag(run_id, "sisr.folder", str((place.runs / "better").resolve()))
    assert code == 7
    assert re.search(r"images: it was trained on [678] of these 8 images", said)


@pytest.mark.parametrize("folder", ["here", "elsewhere"])
def test_a_registered_model_is_known_by_its_images_too(place, register, tmp_path, monkeypatch, capsys, folder):
    """Where its run's folder is on this machine, and where it is not."""
    assert register("better", "--model-name", "known")[0] == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.url)
    run = place.runs / "better"
    if folder == "elsewhere":
        run.rename(tmp_path / "gone")
    try:
        own = place.runs.parent / "train"
        shutil.copytree(own, tmp_path / "copied")  # the same images in another place are no split of its run's
        for data in (tmp_path / "copied", own):
            words = ["--data", data, "--runs", place.runs, "--perceptual", "none"]
            with pytest.raises(SystemExit) as end:
                cli.main(["evaluate", "models:/known@champion", *map(str, words)])
            assert not end.value.code
    finally:
        if folder == "elsewhere":
            (tmp_path / "gone").rename(run)
    copied, held_out = capsys.readouterr().err.split(f"{own}: judged on the 2 images that were held out")
    assert "warning: models:/known@champion was trained on" in copied
    assert "warning" not in held_out


@pytest.mark.parametrize("metric", ["score", "swd", "ssim_rgb"])
def test_any_metric_that_is_measured_can_decide(register, metric):
    """Few steps improve PSNR at once and SWD later, so either answer is right here if it fits its interval."""
    code, result, said = register("better", "--model-name", f"by-{metric}", "--by", metric, "--perceptual", "swd")
    assert result["by"] == metric, said
    last = result["tests"][-1]
    ((word, low, high),) = re.findall(rf"(.*): {metric} \S+ \[(\S+), (\S+)\]$", last["finding"])
    shown = float(high) < 0 if metric == "swd" else float(low) > 0
    assert (word == "better", last["passed"], code == 0) == (shown, shown, shown)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "name what to register: a run, or --experiment NAME"),
        (["worse", "--experiment", "boards"], 2, "name what to register"),
        (["nobody"], 2, "no run 'nobody': neither a run's folder nor one in"),
        (["0" * 32], 2, "no run 00000000000000000000000000000000 in MLflow at http"),
        (["--experiment", "bords"], 2, "no experiment 'bords'; did you mean 'boards'?"),
        (["--experiment", "boards", "--metric", "final/psnr"], 2, "no|none of the 2 finished runs"),
        (
            ["worse", "--by", "lpips", "--perceptual", "swd"],
            2,
            "--by lpips is not measured under protocol rgb8 with swd",
        ),
        (["worse", "--model-name", "a/b"], 2, "--model-name 'a/b' can't be used"),
        (["worse", "--rollback"], 2, "--rollback only swaps aliases"),
        (["worse", "--data", "nowhere"], 3, "no images at 'nowhere'"),
    ],
)
def test_what_can_not_be_done_is_said(register, words, code, message):
    found, _, said = register(*words)
    assert (found, re.search(message, said) is not None) == (code, True), said


def test_without_data_nothing_is_decided(place, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["register", "worse", "--runs", str(place.runs)])
    assert end.value.code == 2
    assert "name the images that decide with --data" in capsys.readouterr().err


def test_a_server_that_is_away_is_exit_code_69(place, capsys):
    away = ["--tracking-uri", "http://127.0.0.1:9"]
    with pytest.raises(SystemExit) as end:
        cli.main(["register", "--rollback", "--model-name", "x", *away])
    assert end.value.code == 69
    assert "MLflow at http://127.0.0.1:9: Connection refused" in capsys.readouterr().err


@pytest.fixture(scope="module")
def contest(place: Place) -> str:
    """An experiment of made-up runs, and its name."""
    from mlflow import MlflowClient

    client = MlflowClient(place.url)
    experiment = client.create_experiment("contest")
    finished = {"sisr.state": "finished"}
    made: list[tuple[str, float | None, dict[str, str]]] = [
        ("good", 30.0, finished),
        ("best", 32.0, finished | {"sisr.kind": "trial", "mlflow.parentRunId": "0" * 32}),
        ("equal", 32.0, finished),
        ("bad", 20.0, finished),
        ("none", None, finished),
        ("stopped", 40.0, {"sisr.state": "stopped"}),
        ("sweep", 50.0, finished | {"sisr.kind": "sweep"}),
    ]
    for start, (name, value, tags) in enumerate(made):
        run = client.create_run(experiment, start_time=1000 + start, tags=tags, run_name=name)
        client.log_metric(run.info.run_id, "final/psnr_y" if value else "final/ssim_y", value or 0.5)
    return "contest"


@pytest.mark.parametrize(("mode", "name"), [("max", "best"), ("min", "bad")])
def test_the_best_is_a_finished_run_or_trial_and_of_equal_ones_the_first(client, contest, mode, name):
    from sisr.tracking.selection import ranked

    assert ranked(client, contest, "final/psnr_y", mode)[0].info.run_name == name


def test_a_metric_that_no_run_has_is_answered_with_those_there_are(client, contest):
    from sisr.tracking.selection import ranked

    with pytest.raises(ConfigError, match=r"none of the 5 finished runs .* 'final/psnr'; did you mean 'final/psnr_y'"):
        ranked(client, contest, "final/psnr", "max")


@pytest.fixture
def trial(place: Place, tmp_path: Path) -> Path:
    """The folder of a sweep's trial: a checkpoint, and an outbox that names no model."""
    folder = tmp_path / "runs" / "sweep" / "trials" / "0007"
    checkpoint = folder / "checkpoints" / "step_000000150"
    shutil.copytree(place.runs / "better" / "checkpoints" / checkpoint.name, checkpoint)
    shutil.copy(place.runs / "better" / "run.json", folder)
    with Outbox(folder) as outbox:
        outbox.tags({"sisr.kind": "trial", "sisr.state": "finished", "sisr.folder": str(folder)})
        outbox.metrics(150, {"final/psnr_y": 19.5})
        outbox.artifact("run.json")
    return folder


def test_a_trial_that_logs_no_model_itself_is_registered_from_its_folder(client, register, trial):
    code, result, said = register(trial, "--model-name", "trial")
    assert (code, result and result["run"]) == (0, "0007"), said
    assert register(trial, "--model-name", "trial")[1]["state"] == "champion already"
    version = client.get_model_version_by_alias("trial", "champion")
    known = client.search_logged_models([client.get_experiment_by_name("sisr").experiment_id])
    assert [m.source_run_id for m in known] == [version.run_id]


def test_a_checkpoint_that_is_not_what_its_manifest_says_is_refused(register, trial):
    weights = trial / "checkpoints" / "step_000000150" / "generator.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, _, said = register(trial, "--model-name", "broken")
    assert code == 4
    assert "SHA-256 of generator.safetensors" in said
    assert "by manifest.json" in said


def run_verb(words: list[str], printed: str, environment: dict[str, str]) -> None:
    """Run a command in this process, and write what it prints to a file."""
    os.environ.update(environment)
    with open(printed, "w") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    cli.main(words)


@pytest.mark.slow
def test_two_registrations_at_once_leave_the_better_model_as_champion(place, client):
    """Whoever comes second is measured against the first, also where both saw no champion when they began."""
    words = ["register", "--model-name", "race", "--data", str(place.images), "--runs", str(place.runs)]
    words += ["--tracking-uri", place.url]
    both = {
        name: forkserver().Process(target=run_verb, args=([*words, name], f"{name}.txt", dict(os.environ)))
        for name in QUALITY
    }
    for process in both.values():
        process.start()
    for process in both.values():
        process.join(300)
    said = {name: Path(f"{name}.txt").read_text() for name in QUALITY}
    codes = {name: process.exitcode for name, process in both.items()}
    names = {v.version: client.get_run(v.run_id).info.run_name for v in client.search_model_versions("name = 'race'")}
    held = {alias: names[version] for alias, version in aliases(client, "race").items()}
    assert codes["better"] == 0, said
    if codes["worse"] == 0:
        assert held == {"champion": "better", "previous": "worse"}
    else:
        assert codes["worse"] == 7
        assert held == {"champion": "better"}
        assert "champion (version" in said["worse"]
