"""BasicSR as an opponent: it must do the same work, and what can't be measured must be said."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from sisr import recipes
from sisr.errors import ConfigError
from sisr.training.basicsr import basicsr_loop, require
from sisr.training.benchmark import Flops, flops_of_step

CPU = torch.device("cpu")
NAMED = os.environ.get("SISR_BASICSR")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a checkout."""
    (tmp_path / "basicsr/models").mkdir(parents=True)
    (tmp_path / "basicsr/models/sr_model.py").write_text("")
    return tmp_path


def test_a_folder_without_basicsr_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path} is no checkout of BasicSR: it holds no basicsr/models"):
        require("srresnet", recipes.load("srresnet").tiny(), tmp_path)


def test_a_recipe_that_basicsr_has_not_is_refused_with_those_that_it_has(checkout: Path) -> None:
    with pytest.raises(ConfigError, match="no training like srez's; it has one like that of pixelshuffle, srresnet"):
        require("srez", recipes.load("srez").tiny(), checkout)


def test_a_perceptual_loss_that_it_would_download_is_refused_with_the_setting(checkout: Path) -> None:
    with pytest.raises(ConfigError, match="--set perceptual=none"):
        require("esrgan", recipes.load("esrgan").tiny(), checkout)


@pytest.mark.skipif(NAMED is None, reason="SISR_BASICSR names no checkout of BasicSR, which is no dependency")
@pytest.mark.parametrize("recipe", ["esrgan", "pixelshuffle", "srresnet"])
def test_a_step_of_basicsr_takes_the_same_networks_through_the_same_convolutions(recipe: str, tmp_path: Path) -> None:
    module = recipes.load(recipe)
    known = {"perceptual": "none", "pretrain_steps": 0}
    values = module.tiny().model_dump() | {name: value for name, value in known.items() if hasattr(module.tiny(), name)}
    config = module.Config(**values)
    images: Sequence[np.ndarray] = [np.random.default_rng(i).integers(0, 256, (80, 72, 3), np.uint8) for i in range(8)]
    require(recipe, config, Path(str(NAMED)))
    loop = basicsr_loop(Path(str(NAMED)), recipe, config, images, CPU, tmp_path / "pairs")  # type: ignore[arg-type]
    next(loop)
    with Flops() as counted:
        next(loop)
    assert counted.total >= flops_of_step(module, values, CPU, config.batch_size) * 0.98
    if recipe != "esrgan":  # whose model passes hr through the judge twice, as ours need not
        assert counted.total == pytest.approx(flops_of_step(module, values, CPU, config.batch_size), rel=0.02)
