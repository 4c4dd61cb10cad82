"""A model folder for tests of what uses models: quick to make and to run."""

from pathlib import Path

import torch

from sisr import recipes
from sisr.models.files import save_model


def save(folder: Path, seed: int = 0, weight: float | None = None) -> Path:
    """Write the tiny pixelshuffle with random weights, or with the same weight everywhere, and return the folder."""
    module = recipes.load("pixelshuffle")
    config = module.tiny()
    torch.manual_seed(seed)
    generator = module.generator(config)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
        if weight is not None:
            parameter.data.fill_(weight)
    meta = {"recipe": "pixelshuffle", "config": config.model_dump(mode="json"), "scale": generator.tiling.scale}
    save_model(folder, generator, meta)
    return folder
