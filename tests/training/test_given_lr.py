"""Training and validation on pairs: lr that is given instead of made gives the same run, and stays exact."""

import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

import outside_recipe
from paired import pairs, picture, save
from sisr.data import degradations
from sisr.disk.run_folder import RunFolder
from sisr.errors import DataError
from sisr.terminal import cli
from sisr.training.dataset import TrainingData, refuse_mixed
from sisr.training.local import train_here
from sisr.training.run import Options, Run
from sisr.training.session import NoLog

STEPS = 20
DEGRADE = "        return degradations.quantise(degradations.bicubic(hr, self.generator.tiling.scale))\n"
CROP = "Crop(side=config.hr_crop)"
NEVER = "        raise AssertionError('lr is given')\n"
# MATLAB's own bicubic, which rounds between the two axes, too.
MATLAB = """
        from fractions import Fraction

        import torch

        from sisr.data.bicubic import resize

        images = (hr * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        made = [torch.from_numpy(resize(image, Fraction(1, self.generator.tiling.scale))) for image in images]
        return torch.stack(made).permute(0, 3, 1, 2).contiguous().float() / 255
"""


class Logged(NoLog):
    """Remembers what is logged, by step."""

    def __init__(self) -> None:
        self.values: dict[int, dict[str, float]] = {}
        self.tagged: dict[str, Any] = {}

    def tags(self, values: dict[str, Any]) -> None:
        self.tagged |= values

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.values.setdefault(step, {}).update(values)

    def each(self, name: str) -> dict[int, float]:
        return {step: values[name] for step, values in self.values.items() if name in values}


def run(data: object, degrade: str = NEVER, validation: object = None, flip: bool = True, **config: Any) -> Run:
    text = outside_recipe.text()
    assert DEGRADE in text
    assert CROP in text
    settings = {"scale": 2, "batch_size": 2, "steps": STEPS, "hr_crop": 32, "num_features": 4} | config
    options = Options(
        precision="fp32", threads=1, evaluate_every=10, validation_side=512, perceptual="none", log_every=1, seed=1
    )
    return Run(
        name="t",
        recipe="espcn",
        recipe_source=text.replace(DEGRADE, degrade).replace(CROP, f"Crop(side=config.hr_crop, flip={flip})"),
        config=settings,
        options=options,
        data=str(data),
        validation=None if validation is None else str(validation),
    )


def trained(run: Run, folder: Path) -> Logged:
    log = Logged()
    train_here(run, RunFolder(folder), log)
    return log


def test_given_what_the_recipe_would_make_the_run_is_the_same(tmp_path: Path) -> None:
    """Windows are whole images, since a recipe mirrors what lies beyond a window's edges; unflipped, since sums in
    float32 depend on their order.
    """
    for number in range(6):
        hr = save_and_reload(picture(number, 32, 32), tmp_path / "HR" / f"{number}.png")
        lr = degradations.quantise(degradations.bicubic(hr, 2))[0]
        save((lr * 255).round().byte().permute(1, 2, 0).numpy(), tmp_path / "LR" / f"{number}.png")
    made = trained(run(tmp_path / "HR", DEGRADE, flip=False), tmp_path / "made")
    given = trained(run(f"pairs:{tmp_path}", flip=False), tmp_path / "given")
    assert given.each("generator/pixel") == made.each("generator/pixel")
    assert len(given.each("generator/pixel")) == STEPS
    assert given.each("val/psnr_y") == made.each("val/psnr_y")
    assert "|recipe-lr|" in made.tagged["sisr.validation_protocol"]
    assert "|given-lr|" in given.tagged["sisr.validation_protocol"]


def save_and_reload(pixels: Any, path: Path) -> torch.Tensor:
    """Write a picture and return it as a batch of one."""
    save(pixels, path)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255


def test_a_run_on_pairs_goes_on_as_if_uninterrupted(tmp_path: Path) -> None:
    data = f"pairs:{pairs(tmp_path / 'set')}"
    whole = trained(run(data, hr_crop=16), tmp_path / "whole")
    trained(run(data, hr_crop=16, steps=10), tmp_path / "parts")
    resumed = trained(run(data, hr_crop=16), tmp_path / "parts")
    ours, theirs = resumed.each("generator/pixel"), whole.each("generator/pixel")
    assert ours == {step: loss for step, loss in theirs.items() if step > 10}
    weights = [tmp_path / name / "model" / "generator.safetensors" for name in ("whole", "parts")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
@pytest.mark.data
def test_matlab_s_lr_of_set5_gives_the_run_of_our_own_bicubic(shared_data: Path, tmp_path: Path) -> None:
    """To the last bit in the losses of 20 steps, and in the PSNR of whole held-out images."""
    set5 = shared_data / "Set5"
    for part, name in (("train", "butterfly"), ("valid", "head")):  # 256 x 256 and 280 x 280 px
        for kind, folder in (("HR", "HR"), ("LR", "LRx4_matlab_mirror")):
            (tmp_path / part / kind).mkdir(parents=True)
            shutil.copy(set5 / folder / f"{name}.png", tmp_path / part / kind)
    config: dict[str, Any] = {"scale": 4, "hr_crop": 256}
    made = trained(run(tmp_path / "train/HR", MATLAB, tmp_path / "valid/HR", **config), tmp_path / "made")
    given = trained(run(f"pairs:{tmp_path}/train", NEVER, tmp_path / "valid", **config), tmp_path / "given")
    assert given.each("generator/pixel") == made.each("generator/pixel")
    assert len(given.each("generator/pixel")) == STEPS
    assert given.each("val/psnr_y") == pytest.approx(made.each("val/psnr_y"), abs=1e-6)
    assert given.tagged["sisr.bicubic"] == pytest.approx(made.tagged["sisr.bicubic"], abs=1e-6)


@pytest.mark.parametrize("begun", [True, False])
def test_low_resolution_among_originals_ends_no_run_that_has_begun(
    capsys: pytest.CaptureFixture[str], begun: bool
) -> None:
    data = cast(TrainingData, SimpleNamespace(mixed="5 pictures are there twice"))
    with nullcontext() if begun else pytest.raises(DataError, match="5 pictures are there twice"):
        refuse_mixed(data, begun=begun)
    assert ("5 pictures are there twice" in capsys.readouterr().err) == begun


@pytest.mark.parametrize(
    ("recipe", "words", "message"),
    [
        ("srez", [], "the recipe averages windows of 128 px down to 64 px"),
        (
            "pixelshuffle",
            ["--set", "scale=3", "--set", "hr_crop=48"],
            "lr is x2 smaller than hr, and the recipe enlarge",
        ),
    ],
)
def test_pairs_that_a_recipe_can_t_use_are_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str, words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", recipe, "--data", f"pairs:{pairs(tmp_path / 'set')}", *words, "--dry-run"])
    assert ended.value.code in (2, 3)
    assert message in capsys.readouterr().err
