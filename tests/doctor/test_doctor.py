"""The verb `doctor`: what it says of this machine, of images and of cluster files, and its exit codes."""

import json
import os
import shutil
import socket
import tempfile
from collections import namedtuple
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as photographs

from sisr.data import kernels
from sisr.data.bicubic import resize
from sisr.data.packing import pack
from sisr.data.sources.folder import find_images
from sisr.doctor import environment, machine
from sisr.inference.jobs import plan
from sisr.terminal import cli

GIB = 2**30
OK, CONFIG, DATA = 0, 2, 3


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, str]], str]:
    """Exit code, findings and what was said on stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", *words, "--json"])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), json.loads(out)["findings"] if out else [], err


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a private token."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch(mode=0o600)
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "cache"))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def found(findings: list[dict[str, str]], what: str) -> dict[str, str]:
    return next(one for one in findings if one["what"] == what)


def test_a_machine_that_can_train_passes_and_every_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, findings, err = doctor(capsys)
    assert (code, err) == (OK, "")
    assert {"python", "libraries", "gpu", "memory", "shared memory", "token", "code", "mlflow"} <= {
        one["what"] for one in findings
    }
    assert torch.__version__.partition("+")[0] in found(findings, "libraries")["found"]
    assert not Path("runs").exists()


def test_code_without_git_is_named_by_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.code_revision, "code_revision", lambda: {"digest": "0123456789ab"})
    assert (machine.code().level, machine.code().found) == ("warning", "commit unknown; digest 0123456789ab")


def test_a_token_that_others_can_read_is_an_error(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    (home / ".ray" / "auth_token").chmod(0o644)
    code, findings, err = doctor(capsys)
    assert code == CONFIG
    assert "mode 0644" in err
    assert found(findings, "token")["remedy"].startswith("chmod 600")


def test_a_missing_token_is_only_a_warning_on_a_laptop(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    (home / ".ray" / "auth_token").unlink()
    code, findings, _ = doctor(capsys)
    assert (code, found(findings, "token")["level"]) == (OK, "warning")


@pytest.mark.mlflow
def test_a_tracking_server_that_does_not_answer_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, findings, err = doctor(capsys, "--tracking-uri", "http://127.0.0.1:9")
    assert code == CONFIG
    assert found(findings, "mlflow")["level"] == "error"
    assert "http://127.0.0.1:9" in err


@pytest.mark.parametrize(("free", "level"), [(0.5, "error"), (5, "warning"), (500, "ok")])
def test_little_room_is_told_by_how_little(
    free: float, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, int(free * GIB)))
    assert [one.level for one in machine.disks({"runs": tmp_path / "a" / "b"})] == [level]


def test_a_folder_nobody_may_write_to_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert [one.level for one in machine.disks({"runs": tmp_path})] == ["error"]


def test_a_gpu_that_torch_can_not_use_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("torch can use the GPU")
    assert machine.gpu().level == "warning"
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA L4\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert (machine.gpu().level, machine.gpu().found[:17]) == ("error", "NVIDIA L4 is here")


def photograph(name: str = "astronaut") -> "np.ndarray[Any, np.dtype[np.uint8]]":
    pixels: np.ndarray[Any, np.dtype[np.uint8]] = getattr(photographs, name)()[:240, :304]
    return pixels


def write(pixels: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_a_folder_of_images_is_judged_as_training_would(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number in range(4):
        write(photograph()[number:], tmp_path / "images" / f"{number}.png")
    shutil.copy(tmp_path / "images" / "1.png", tmp_path / "images" / "copy.png")
    code, findings, _ = doctor(capsys, str(tmp_path / "images"))
    assert (code, found(findings, "images")["found"]) == (OK, "5 of 5 can be used")
    assert "1 image is there twice" in found(findings, "copies")["found"]
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG no more")
    code, findings, err = doctor(capsys, str(tmp_path / "images"))
    assert code == DATA
    assert found(findings, "broken.png")["level"] == "warning"
    assert "1 of 6 image files can't be used" in err


MAKERS = {
    "MATLAB bicubic": lambda hr, s: resize(hr, Fraction(1, s)),
    "Pillow bicubic": lambda hr, s: np.asarray(
        Image.fromarray(hr).resize((hr.shape[1] // s, hr.shape[0] // s), Image.Resampling.BICUBIC)
    ),
    "Pillow Lanczos": lambda hr, s: np.asarray(
        Image.fromarray(hr).resize((hr.shape[1] // s, hr.shape[0] // s), Image.Resampling.LANCZOS)
    ),
}


@pytest.mark.parametrize("kernel", MAKERS)
@pytest.mark.parametrize(("scale", "layout"), [(2, "LR/{}x2.png"), (4, "LR_bicubic/X4/{}.png"), (4, "{}_LR.png")])
def test_what_made_the_low_resolution_images_is_recognised(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kernel: str, scale: int, layout: str
) -> None:
    for name in ("astronaut", "coffee"):
        hr = photograph(name)
        write(hr, tmp_path / "pairs" / ("HR" if "/" in layout else "") / f"{name}.png")
        write(MAKERS[kernel](hr, scale), tmp_path / "pairs" / layout.format(name))
    code, findings, _ = doctor(capsys, str(tmp_path / "pairs"))
    assert code == DATA, "as plain images, which they are not"
    assert [one["found"] for one in findings if "pairs" in one["found"]] == [
        f"2 pairs x{scale}; low resolution made by: {kernel}"
    ]


def test_low_resolution_without_antialiasing_is_not_taken_for_bicubic(tmp_path: Path) -> None:
    hr = photograph()
    lr = hr[1::3, 1::3]  # every third pixel: what a bicubic without antialiasing comes to at an odd scale
    means = kernels.differences(lr, hr, 3)
    assert means["OpenCV bicubic, without antialiasing"] < 1e-6 < 2 < means["MATLAB bicubic"]


def test_pictures_that_only_share_a_name_are_no_pairs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write(photograph(), tmp_path / "images" / "a" / "1.png")
    write(photograph("coffee")[:120, :152], tmp_path / "images" / "b" / "1.png")
    _, findings, _ = doctor(capsys, str(tmp_path / "images"))
    assert not [one for one in findings if "pairs" in one["found"]]


@pytest.mark.parametrize(
    ("name", "text", "code", "message"),
    [
        ("a.yaml", "steps: 5\n", CONFIG, "no cluster file: it names no 'provider'"),
        ("a.yaml", "provider: [\n", CONFIG, "a.yaml:2"),
        ("a.yaml", "cluster_name: a\ncluster_name: b\nprovider: {type: aws}\n", CONFIG, "given twice"),
        ("a.yaml", "cluster_name: a\nprovider: {type: elsewhere}\n", CONFIG, "Ray refuses it"),
        ("a.yaml", "cluster_name: a\nprovider: {type: aws}\nbucket: b\n", CONFIG, "'bucket' was unexpected"),
    ],
)
def test_a_file_that_starts_no_cluster_is_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], name: str, text: str, code: int, message: str
) -> None:
    Path(name).write_text(text)
    ended, _, err = doctor(capsys, name)
    assert ended == code
    assert message in err
    assert "our mistake" not in err


def test_what_is_absent_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(capsys, "absent.yaml")[::2] == (CONFIG, "sisr: can't read absent.yaml: No such file or directory\n")
    code, _, err = doctor(capsys, "no/such/folder")
    assert code == DATA
    assert "no images at 'no/such/folder'" in err


def pairs_folder(folder: Path) -> Path:
    """Pairs x4, of which one has no low resolution, one is off by a pixel, and one is called otherwise."""
    for number in range(6):
        hr = photograph()[number:, : 300 - 4 * number]
        write(hr, folder / "HR" / f"{number}.png")
        height, width = (side // 4 * 4 for side in hr.shape[:2])
        lr = resize(hr[:height, :width], Fraction(1, 4))
        if number != 1:
            name = {3: "renamed"}.get(number, str(number))
            write(lr[:, 1:] if number == 2 else lr, folder / "LR" / f"{name}.png")
    return folder


def test_low_resolution_that_is_missing_renamed_or_off_by_a_pixel_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, findings, _ = doctor(capsys, str(pairs_folder(tmp_path / "set")))
    assert found(findings, "LR")["found"] == "3 pairs x4; low resolution made by: MATLAB bicubic"
    assert [one["found"] for one in findings if one["what"] == "pairs"] == [
        "LR/2.png has 72x59 px, and HR/2.png shrunk x4 has 73x59",
        "HR/1.png has no low resolution x4 of its name",
        "HR/3.png has no low resolution x4 of its name; LR/renamed.png, which belongs to nothing else, "
        "has the right size",
    ]


@pytest.mark.parametrize(
    "words", [["evaluate", "bicubic"], ["train", "pixelshuffle", "--set", "hr_crop=64", "--dry-run"]]
)
def test_a_folder_of_pairs_given_as_images_is_refused_with_what_to_say(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]
) -> None:
    folder = pairs_folder(tmp_path / "set")
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--data", str(folder)])
    assert ended.value.code == DATA
    assert (
        f"{folder}: 3 pictures are there twice, x4 smaller in 'LR' (LR/0.png and HR/0.png); to use the given lr, say "
        f"--data pairs:{folder}/HR,{folder}/LR; to make lr while training, --data {folder}/HR"
    ) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "1 picture is there twice, enlarged x4 (0.png and 0_x4.png); 0_x4.png is called as `sisr upscale` calls"),
        (2, "2 pictures are there twice, enlarged x4 (0.png and 0_x4.png); those that end in _x4 are called as"),
    ],
)
def test_what_upscale_wrote_beside_its_input_is_named_as_such(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, count: int, said: str
) -> None:
    for number in range(count):
        source = tmp_path / "set" / f"{number}.png"
        write(photograph()[:120, number : number + 80], source)
        (job,) = plan(source, None, None, 4, compare=False)
        write(resize(photograph()[:120, number : number + 80], Fraction(4)), job.target)
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", "bicubic", "--data", str(tmp_path / "set")])
    assert ended.value.code == DATA
    assert f"{tmp_path / 'set'}: {said}" in capsys.readouterr().err


def test_what_upscale_wrote_is_an_error_where_training_refuses_it_and_no_innocent_is_accused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for number in range(4):
        write(photograph()[:120, number : number + 80], tmp_path / "set" / f"{number}.png")
    write(resize(photograph()[:120, :80], Fraction(4)), tmp_path / "set" / "0_x4.png")
    write(photograph()[:320, :300], tmp_path / "set" / "0_x4_compare.png")
    code, findings, _ = doctor(capsys, str(tmp_path / "set"))
    told = found(findings, "enlarged")
    assert (code, told["level"], told["found"]) == (DATA, "error", "2 of 6 images: 0_x4.png, 0_x4_compare.png")
    assert told["remedy"].endswith("move them away")
    assert "no original of its name" not in json.dumps(findings)


@pytest.mark.slow
def test_training_names_what_it_leaves_out_and_sheets_that_upscale_has_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for number in range(120):
        write(photograph()[number : number + 80, :80], tmp_path / "set" / f"{number}.png")
    (tmp_path / "set" / "torn.png").write_bytes((tmp_path / "set" / "0.png").read_bytes()[:500])
    write(photograph()[:60, :200], tmp_path / "set" / "0_x4_compare.png")
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "pixelshuffle", "--data", str(tmp_path / "set"), "--set", "hr_crop=32", "--dry-run"])
    said = capsys.readouterr().err
    assert not ended.value.code, said
    assert "1 of 122 files can't be used, and are left out:" in said
    assert "torn.png: truncated" in said
    assert "0_x4_compare.png is called as `sisr upscale` calls what it has made" in said


def test_a_few_thumbnails_among_many_images_are_only_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number in range(24):
        write(photograph()[number:, :200], tmp_path / "set" / f"{number}.png")
    write(resize(photograph()[:300, :200], Fraction(1, 4)), tmp_path / "set" / "0_x4.png")
    write(resize(photograph()[:, :200], Fraction(1, 4)), tmp_path / "set" / "thumbnails" / "0.png")
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "pixelshuffle", "--data", str(tmp_path / "set"), "--set", "hr_crop=32", "--dry-run"])
    assert not ended.value.code
    assert "1 picture is there twice, x4 smaller in 'thumbnails'" in capsys.readouterr().err
    code, findings, _ = doctor(capsys, str(tmp_path / "set"))
    assert (code, [one for one in findings if one["what"] == "enlarged"]) == (OK, []), "0_x4.png is the smaller one"


# -- pairs that are given as such


def given(folder: Path, shifts: tuple[int, int, int]) -> str:
    """Pairs x2 whose lr shows what lies so many px further to the right in hr."""
    for shift, name in zip(shifts, ("astronaut", "coffee", "chelsea"), strict=True):
        hr = photograph(name)
        write(hr[:, :280], folder / "HR" / f"{name}.png")
        write(resize(np.ascontiguousarray(hr[:, shift : shift + 280]), Fraction(1, 2)), folder / "LR" / f"{name}.png")
    return f"pairs:{folder}"


def test_pairs_the_wrong_way_round_are_to_be_turned_and_not_removed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    spec = given(tmp_path / "set", (0, 0, 0))
    hr, lr = tmp_path / "set" / "HR", tmp_path / "set" / "LR"
    code, findings, _ = doctor(capsys, f"pairs:{lr},{hr}")
    (told,) = [one for one in findings if one["level"] == "error"]
    assert (code, told["remedy"]) == (DATA, f"the originals come first: pairs:{hr},{lr}")
    assert doctor(capsys, spec)[0] == OK


def test_pairs_are_examined_with_their_kernel_and_alignment(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, findings, _ = doctor(capsys, given(tmp_path / "set", (0, 0, 0)))
    assert (code, found(findings, "images")["found"]) == (OK, "3 of 3 can be used")
    assert (found(findings, "pairs")["level"], found(findings, "pairs")["found"]) == (
        "ok",
        "3 x2; low resolution made by: MATLAB bicubic",
    )
    assert found(findings, "alignment")["level"] == "ok"
    assert found(findings, "alignment")["found"].startswith("lr lies 0.00 px (x +0.00, y +0.00) beside hr")


def test_pairs_that_lie_beside_each_other_are_named_with_how_far(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, findings, _ = doctor(capsys, given(tmp_path / "all", (3, 3, 3)))
    assert found(findings, "alignment")["level"] == "warning"
    assert found(findings, "alignment")["found"].startswith("lr lies 3.00 px (x -3.00, y +0.00) beside hr")
    _, findings, _ = doctor(capsys, given(tmp_path / "one", (0, 1, 0)))
    assert found(findings, "alignment")["level"] == "ok"
    assert found(findings, "coffee.png")["found"] == "lies 1.00 px (x -1.00, y +0.00) beside its hr"


def test_packed_pixels_that_have_changed_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number in range(2):
        write(photograph()[number:], tmp_path / "images" / f"{number}.png")
    folder = pack(find_images(tmp_path / "images")).folder
    _, findings, _ = doctor(capsys, str(tmp_path / "images"))
    assert found(findings, "packed")["level"] == "ok"
    content = bytearray((folder / "pixels.u8").read_bytes())
    content[5] ^= 1
    (folder / "pixels.u8").write_bytes(content)
    _, findings, _ = doctor(capsys, str(tmp_path / "images"))
    assert found(findings, "packed")["level"] == "warning"
    assert "the pixels of 0.png have changed" in found(findings, "packed")["found"]


# -- what surrounds a run


def test_a_temporary_folder_that_is_too_long_for_sockets_is_named(tmp_path: Path, monkeypatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert environment.temporary_folder().level == "warning"
    assert "sockets may have 107 characters" in environment.temporary_folder().found
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    assert environment.temporary_folder().level == "ok"


def test_a_proxy_is_asked_whether_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment.PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert list(environment.proxies()) == []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@127.0.0.1:{listening.getsockname()[1]}")
        (dead,) = environment.proxies()
        listening.listen()
        (alive,) = environment.proxies()
    assert (dead.level, dead.what, alive.level) == ("error", "http_proxy", "ok")
    assert "secret" not in dead.found + alive.found


def test_a_user_without_a_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.user().level == "ok"
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    monkeypatch.delenv("HOME")
    assert (environment.user().level, environment.user().found) == (
        "warning",
        "user 54321 has no name here (no entry in /etc/passwd), and HOME is not set: caches and tokens go to the "
        "temporary folder",
    )


def test_the_address_of_a_ray_that_has_ended_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as ended:
        ended.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{ended.getsockname()[1]}")
        code, findings, _ = doctor(capsys)
    assert (code, found(findings, "ray")["level"]) == (CONFIG, "error")
    assert "(from RAY_ADDRESS)" in found(findings, "ray")["found"]


def test_a_picture_shows_what_a_degradation_makes_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, photograph in (("a.png", photographs.astronaut()), ("b.png", photographs.coffee())):
        Image.fromarray(photograph[:256, :256]).save(folder / name)
    sheet = tmp_path / "sheet.png"
    code, _, err = doctor(capsys, str(folder), "--degradation", "bicubic", "--picture", str(sheet))
    assert code == OK
    assert f"{sheet} shows 24 examples\n" in err
    with Image.open(sheet) as picture:
        shown = np.asarray(picture)
    cell = 192 + 4  # with the gap that follows it
    top = len(shown) - 4 * cell  # below the titles
    assert shown.shape[1] == 4 + 6 * 2 * cell
    hr, lr = shown[top : top + 192, 4:cell], shown[top : top + 192 : 4, 4 + cell : 2 * cell : 4]
    assert np.abs(resize(hr, Fraction(1, 4)).astype(int) - lr).max() <= 2  # MATLAB rounds after each axis, too


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--degradation", "bicubic"), "--degradation NAME and --picture FILE.png go together"),
        (("--degradation", "blurr", "--picture", "x.png"), "did you mean 'blur'"),
        (("--degradation", "{kind: blur, sigma: [3, 1]}", "--picture", "x.png"), "smaller one first"),
    ],
)
def test_a_degradation_that_can_t_be_shown_is_refused(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = doctor(capsys, str(tmp_path), *words)
    assert code == CONFIG
    assert message in err
