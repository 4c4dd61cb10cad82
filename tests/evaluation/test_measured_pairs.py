"""Measuring on given lr, and what another program has made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from measured import evaluate_model
from paired import pairs, picture, save, shrunk
from sisr.data.bicubic import resize
from sisr.data.images import decode
from sisr.data.sources.catalogue import absolute, open_source
from sisr.errors import DataError
from sisr.evaluation.finished import find_finished
from sisr.evaluation.images import Learned, find, find_unseen, fingerprint, given_scale, hashes
from sisr.terminal import cli

DATA = 3


def evaluate(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any, str]:
    """Exit code, what was printed as JSON, and what was said on stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", *map(str, words), "--perceptual", "none", "--json"])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), json.loads(out) if out else None, err


@pytest.mark.data
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_matlab_s_lr_of_set5_gives_the_values_of_our_own_bicubic(
    capsys: pytest.CaptureFixture[str], shared_data: Path, scale: int
) -> None:
    set5 = shared_data / "Set5"
    _, made, _ = evaluate(capsys, "bicubic", "--data", set5 / "HR", "--scale", scale)
    _, given, _ = evaluate(capsys, "bicubic", "--data", f"pairs:{set5}/HR,{set5}/LRx{scale}_matlab_mirror")
    assert given["mean"] == pytest.approx(made["mean"], abs=1e-6)
    assert given["protocol"] == made["protocol"].replace("matlab-mirror-u8", "given-lr")


def test_a_given_lr_is_what_the_model_gets() -> None:
    hr, lr = picture(0), shrunk(picture(1))
    sr = resize(lr, 2)
    error = (sr.astype(float) - hr)[2:-2, 2:-2]
    found = evaluate_model("bicubic", [("x", hr, lr)], 2).mean["psnr_rgb"]
    assert found == pytest.approx(20 * np.log10(255 / np.sqrt((error**2).mean())))


def test_of_a_given_lr_the_luma_protocol_takes_the_luma_as_it_is() -> None:
    hr = picture(0)
    large, small = (16 + image @ [65.481, 128.553, 24.966] / 255 for image in (hr, shrunk(hr)))
    error = (np.floor(resize(small, 2) + 0.5).clip(0, 255) - large.round())[2:-2, 2:-2]
    found = evaluate_model("bicubic", [("x", hr, shrunk(hr))], 2, "y").mean["psnr_y"]
    assert found == pytest.approx(20 * np.log10(255 / np.sqrt((error**2).mean())), abs=0.02)  # a tie in 2,000


def test_grey_lr_and_colour_lr_of_the_same_picture_count_alike() -> None:
    hr = np.repeat(picture()[..., :1], 3, axis=2)
    lr = shrunk(hr)
    for rule in ("rgb8", "y"):
        colour = evaluate_model("bicubic", [("x", hr, lr)], 2, rule)
        assert evaluate_model("bicubic", [("x", hr, lr[..., 0])], 2, rule).mean == pytest.approx(colour.mean)


def test_pairs_of_another_scale_than_what_is_measured_are_named() -> None:
    with pytest.raises(DataError, match=r"x: its lr has 32x24 px and hr 64x48 px: that is not x4, which is measured"):
        evaluate_model("bicubic", [("x", picture(), shrunk(picture()))], 4)


def test_all_pairs_are_measured_at_their_scale_and_bad_ones_are_all_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = f"pairs:{pairs(tmp_path / 'set', 4)}"
    code, found, _ = evaluate(capsys, "bicubic", "--data", data)
    assert (code, [image["name"] for image in found["images"]]) == (0, [f"{i}.png" for i in range(4)])
    assert "|crop2|given-lr|" in found["protocol"]
    (tmp_path / "set" / "LR" / "1.png").unlink()
    save(shrunk(picture(2))[1:], tmp_path / "set" / "LR" / "2.png")
    code, _, err = evaluate(capsys, "bicubic", "--data", data)
    assert code == DATA
    assert "2 of 4 can't be measured on" in err
    assert "1.png: no partner: no lr image has its name" in err
    assert "2.png: another size: its lr, 2.png: it has 32x23 px" in err


def test_the_images_of_a_gate_are_others_where_their_lr_is(tmp_path: Path) -> None:
    files = find(f"pairs:{pairs(tmp_path, 3)}")
    assert given_scale(files) == 2
    before, known = fingerprint(files, hashes(files)), hashes(files)
    lr = decode(tmp_path / "LR" / "0.png").copy()
    lr[0, 0, 0] ^= 1
    save(lr, tmp_path / "LR" / "0.png")
    assert hashes(files) == known
    assert fingerprint(files, known) != before


def test_of_a_run_s_own_pairs_a_gate_takes_what_was_held_out(tmp_path: Path) -> None:
    data = f"pairs:{pairs(tmp_path, 12)}"
    files, called = find_unseen(data, [Learned({"data": absolute(data), "validation": None})])
    assert files == open_source(data).validation
    assert called == f"{data} (held-out images)"
    assert len(find_unseen(data, [Learned({"data": "pairs:/elsewhere"})])[0]) == 12


# -- sr of other programs


def made(folder: Path, names: dict[str, str]) -> Path:
    """Write each picture, slightly changed, under the name that another program gave it."""
    for original, name in names.items():
        hr = decode(folder / "HR" / original)
        save(np.clip(hr.astype(int) + 3, 0, 255).astype(np.uint8), folder / "SR" / name)
    return folder / "SR"


def originals(folder: Path) -> list[str]:
    names = ["img.png", "img_10.png", "a.png"]
    for number, name in enumerate(names):
        save(picture(number), folder / "HR" / name)
    return names


@pytest.mark.parametrize("name", ["{}.png", "{}x4.png", "{}_SRF_4_SR.png", "{}_RealESRGAN_x4plus.png", "{}_out.png"])
def test_what_another_program_has_made_is_found_by_the_originals_names(tmp_path: Path, name: str) -> None:
    names = originals(tmp_path)
    folder = made(tmp_path, {each: name.format(each.removesuffix(".png")) for each in names})
    found, surplus = find_finished(folder, find(str(tmp_path / "HR")), 2)
    assert {original: path.name for original, path in found.files.items()} == {
        each: name.format(each.removesuffix(".png")) for each in names
    }
    assert surplus == []


def test_sr_of_another_program_is_scored_beside_bicubic(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = made(tmp_path, {name: name for name in originals(tmp_path)})
    save(picture(), folder / "more.png")
    code, found, err = evaluate(capsys, "bicubic", "--sr", folder, "--data", tmp_path / "HR", "--scale", 2)
    assert code == 0
    assert [model["model"] for model in found["models"]] == ["bicubic", "SR"]
    expected = [
        evaluate_model("bicubic", [(name, decode(tmp_path / "HR" / name))], 2).mean["psnr_rgb"] for name in ("a.png",)
    ]
    assert [i["psnr_rgb"] for i in found["models"][0]["images"] if i["name"] == "a.png"] == expected
    # Three grey levels too bright, but where that is clipped.
    assert found["models"][1]["mean"]["psnr_rgb"] == pytest.approx(20 * np.log10(255 / 3), abs=0.5)
    assert "|lr-unknown|" in found["models"][1]["protocol"]
    assert "surplus in --sr" in err
    assert "no image of --data has their names: more.png" in err


def test_missing_and_wrongly_sized_sr_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = originals(tmp_path)
    folder = made(tmp_path, {names[0]: names[0], names[1]: "other.png", names[2]: names[2]})
    save(picture(0, 40, 64), folder / names[0])
    code, _, err = evaluate(capsys, "--sr", folder, "--data", tmp_path / "HR", "--scale", 2)
    assert code == DATA
    assert "none for img_10.png" in err
    assert "img.png has 64x40 px instead of 64x48" in err
    assert "files that belong to none: other.png" in err
