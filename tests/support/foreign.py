"""Small networks of other projects' architectures, and the recipe that trains them, for tests."""

from types import ModuleType, SimpleNamespace
from typing import Any, cast

import torch

from sisr import recipes
from sisr.models import zoo
from sisr.recipe import RecipeModule

NETWORKS: dict[str, dict[str, Any]] = {
    "SPAN": {"feature_channels": 8},
    "Compact": {"num_feat": 8, "num_conv": 2},
    "ESRGAN": {"num_filters": 8, "num_blocks": 2},
    "SwinIR": {
        "window_size": 8,
        "img_size": 16,
        "depths": [2, 2],
        "num_heads": [2, 2],
        "embed_dim": 8,
        "mlp_ratio": 2.0,
        "upsampler": "pixelshuffledirect",
    },
    "RealPLKSR": {"dim": 16, "n_blocks": 2, "kernel_size": 5},
    "PLKSR": {"dim": 16, "n_blocks": 2, "kernel_size": 5},
    "OmniSR": {"num_feat": 32, "res_num": 1, "block_num": 1, "window_size": 8},
    "SAFMN": {"dim": 8, "n_blocks": 2},
}


def build(name: str, scale: int = 4, seed: int = 0) -> zoo.Adapted:
    """Return a network with random weights that make images: not all grey, not all out of range."""
    torch.manual_seed(seed)
    return zoo.build(name, scale, NETWORKS[name])


def recipe_of(name: str, **changes: Any) -> RecipeModule:
    """Return the recipe `finetune` whose `tiny()` trains a small network of an architecture."""
    module = cast(ModuleType, recipes.load("finetune"))
    settings = {"network": name, "network_options": NETWORKS[name], "hr_crop": 64, "perceptual": "none"}
    tiny = module.tiny().model_copy(update=settings | changes)
    made = SimpleNamespace(Config=module.Config, Recipe=module.Recipe, generator=module.generator, tiny=lambda: tiny)
    return cast(RecipeModule, made)
