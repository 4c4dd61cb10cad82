"""Generators as MLflow models: saved without pickle, loaded by anybody, fetched back as plain files."""

import base64
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sisr import recipes
from sisr.errors import CheckpointError, DiskError, TrackingError
from sisr.models.files import save_model
from sisr.models.model import load_model
from sisr.tracking import address, courier, progress
from sisr.tracking.outbox import Outbox

pytestmark = pytest.mark.mlflow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a delivered run's folder that holds a model with random weights."""
    run_dir = tmp_path_factory.mktemp("registry") / "runs" / "trained"
    module = recipes.load("pixelshuffle")
    config = module.tiny()
    generator = module.generator(config)
    torch.manual_seed(0)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    meta = {
        "recipe": "pixelshuffle",
        "config": config.model_dump(mode="json"),
        "scale": config.scale,
        "step": 7,
    }
    save_model(run_dir / "model", generator, meta)
    with Outbox(run_dir) as outbox:
        outbox.params({"steps": 7})
        outbox.metrics(7, {"val/psnr_y": 30.0})
        outbox.artifact("model", "generator")
        outbox.model("model")
        outbox.status("FINISHED")
    assert courier.deliver(run_dir).delivered
    return run_dir


def run_id_of(run_dir: Path) -> str:
    place = address.read(run_dir)
    assert place is not None
    assert place.run_id is not None
    return place.run_id


@pytest.fixture
def client(run):
    from mlflow import MlflowClient

    return MlflowClient(address.default_uri(run.parent))


def logged(client, run):
    found = client.get_run(run_id_of(run))
    return client.search_logged_models([found.info.experiment_id], f"source_run_id = '{found.info.run_id}'")


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (3, 13, 21, 3), (2, 40, 9, 3)])
def test_the_mlflow_model_equals_the_generator_for_any_size_and_batch(run, client, monkeypatch, shape):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.default_uri(run.parent))
    model = mlflow.pyfunc.load_model(f"models:/{logged(client, run)[0].model_id}")
    lr = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with torch.inference_mode():
        sr = load_model(run / "model").generator(torch.from_numpy(lr).permute(0, 3, 1, 2).float() / 255)
    expected = (sr.clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy()
    found = model.predict(lr)
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 1


def test_the_model_carries_example_and_requirements_but_no_pickle(run):
    import mlflow

    path = next((run.parent / "mlartifacts" / "models").glob("m-*/artifacts"))
    info = mlflow.models.Model.load(str(path))
    assert info.load_input_example(str(path)).shape == (2, 8, 8, 3)
    listed = (path / "requirements.txt").read_text().splitlines()
    assert f"torch=={torch.__version__.split('+')[0]}" in listed
    # Beside the model lies what Python compiled of its code when another test loaded it.
    files = [file for file in path.rglob("*") if file.parent.name != "__pycache__"]
    assert not [file for file in files if file.suffix in (".pkl", ".pickle", ".pt", ".pth", ".pt2", ".pyc")]


@pytest.mark.slow
def test_a_model_is_recorded_without_torch_for_which_somebody_would_wait(run, tmp_path):
    script = (
        "import sys; from pathlib import Path; from sisr.tracking import registry, service; "
        "registry.save_generator(Path(sys.argv[1]), Path(sys.argv[2])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, run / "model", tmp_path / "model"], check=True)


def test_the_model_brings_the_code_it_needs_and_no_other(run):
    path = next((run.parent / "mlartifacts" / "models").glob("m-*/artifacts"))
    code = {p.relative_to(path / "code" / "sisr").as_posix() for p in (path / "code").rglob("*.py")}
    assert {"models/model.py", "inference/tiled.py", "recipes/pixelshuffle.py", "nets/pixelshuffle.py"} <= code
    assert not [p for p in code if p.startswith(("training/", "tracking/", "cluster/", "recipes/srez"))]


def test_the_logged_model_says_what_its_files_are(run, client):
    (model,) = logged(client, run)
    files = json.loads(model.tags["sisr.sha256"])
    assert files == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (run / "model").iterdir()}


@pytest.fixture(scope="module")
def loaded(run):
    """The MLflow model."""
    import mlflow

    return mlflow.pyfunc.load_model(str(next((run.parent / "mlartifacts" / "models").glob("m-*/artifacts"))))


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def pixels(file: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def test_integers_and_floats_mean_the_same_pixels(loaded):
    lr = noise(2, 9, 7, 3)
    sr = loaded.predict(lr)
    assert np.array_equal(loaded.predict(lr.astype(np.int64)), sr)  # what JSON becomes
    assert np.abs(loaded.predict(lr / 255).astype(int) - sr).max() <= 1


def test_an_empty_batch_stays_empty(loaded):
    sr = loaded.predict(np.zeros((0, 8, 9, 3), np.uint8))
    scale = loaded.predict(noise(1, 8, 9, 3)).shape[1] // 8
    assert sr.shape == (0, 8 * scale, 9 * scale, 3)


def test_an_image_file_becomes_a_png_file_of_the_same_pixels(loaded):
    lr = noise(11, 6, 3)
    sr = loaded.predict(lr[None])[0]
    assert np.array_equal(pixels(loaded.predict(png(lr))), sr)
    assert np.array_equal(pixels(loaded.predict(png(np.dstack([lr, np.full((11, 6), 255, np.uint8)])))), sr)


def test_several_files_of_different_sizes_are_welcome_in_every_form(loaded):
    import pandas as pd  # type: ignore[import-untyped]

    files = [png(noise(11, 6, 3)), png(noise(5, 8, 3))]
    made = [loaded.predict(file) for file in files]
    text = [base64.b64encode(file).decode() for file in files]
    for given in (files, tuple(files), text, np.array(text), pd.DataFrame({"image": files}), pd.Series(files)):
        assert loaded.predict(given) == made


def test_mlflows_scoring_server_gets_an_answer_for_both_kinds_of_request(run, loaded):
    """Both requests go through the functions that `mlflow models serve` calls."""
    from mlflow.pyfunc import scoring_server

    def ask(request):
        answer = io.StringIO()
        given = scoring_server.infer_and_parse_data(json.loads(json.dumps(request)), loaded.metadata.get_input_schema())
        scoring_server.predictions_to_json(loaded.predict(given), answer)
        return json.loads(answer.getvalue())["predictions"]

    lr = noise(2, 8, 9, 3)
    assert np.array_equal(ask({"inputs": lr.tolist()}), loaded.predict(lr))
    image = base64.b64encode(png(lr[0])).decode()
    (made,) = ask({"dataframe_split": {"columns": ["image"], "data": [[image]]}})
    assert base64.b64decode(made) == loaded.predict(png(lr[0]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), r"expected pixels \(n, h, w, 3\) or image files, got uint8 \(8, 8, 3\)"),
        (np.full((1, 8, 8, 3), 2.0), "expected pixels from 0 to 1, got 2.0 to 2.0"),
        (np.full((1, 8, 8, 3), -1), "expected pixels from 0 to 255, got -1 to -1"),
        (np.full((1, 8, 8, 3), np.nan), "expected pixels from 0 to 1, got nan"),
        (b"GIF89a", "unsupported format"),
        (["?"], "an image file as text must be base64"),
        ([3.5], "expected pixels"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(loaded, given, message):
    with pytest.raises(ValueError, match=message):
        loaded.predict(given)


def test_the_model_is_an_output_of_its_run_and_carries_its_validation(run, client):
    (model,) = logged(client, run)
    found = client.get_run(run_id_of(run))
    assert [output.model_id for output in found.outputs.model_outputs] == [model.model_id]
    assert {m.key: m.value for m in model.metrics} == {"val/psnr_y": 30.0}
    assert str(model.status) == "READY"


def test_delivering_again_makes_no_second_model(run, client):
    (run / progress.FILE).unlink()
    assert courier.deliver(run).delivered
    assert len(logged(client, run)) == 1


def test_every_address_of_a_model_leads_to_its_files(run, client):
    from sisr.tracking.registry import download_model
    from sisr.tracking.selection import asking

    (model,) = logged(client, run)
    run_id = run_id_of(run)
    with asking(address.default_uri(run.parent)) as registry:
        registry.create_registered_model("sr")
        registry.create_model_version("sr", f"models:/{model.model_id}", run_id, model_id=model.model_id)
        registry.set_registered_model_alias("sr", "champion", "1")
    addresses = ["models:/sr@champion", "models:/sr/1", f"models:/{model.model_id}"]
    addresses += [f"runs:/{run_id}", f"runs:/{run_id}/generator"]
    for uri in addresses:
        folder = download_model(uri, runs=run.parent)
        assert sorted(p.name for p in folder.iterdir()) == ["config.json", "generator.safetensors"]
        for file in folder.iterdir():
            assert file.read_bytes() == (run / "model" / file.name).read_bytes()


@pytest.mark.parametrize("uri", ["models:/sr@nobody", "models:/nope/1", "runs:/" + "0" * 32, "nonsense:/x"])
def test_an_address_without_a_model_is_a_clear_error(run, uri):
    from sisr.tracking.registry import download_model

    with pytest.raises(CheckpointError, match=uri):
        download_model(uri, runs=run.parent)


def test_a_server_that_is_away_is_not_mistaken_for_a_missing_model(monkeypatch):
    from sisr.tracking.registry import download_model

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match="can't be asked"):
        download_model("models:/sr@champion", tracking_uri="http://127.0.0.1:9")


def test_a_cache_that_can_not_be_written_is_named(tmp_path, monkeypatch):
    from sisr.tracking.registry import download_model

    (tmp_path / "file").touch()
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "file"))
    with pytest.raises(DiskError, match=r"can't keep models in .*; set SISR_CACHE"):
        download_model("models:/sr@champion", runs=tmp_path)
