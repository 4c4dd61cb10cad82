"""BasicSR (https://github.com/XPixelGroup/BasicSR) as an opponent: its own data loader, model and optimizer step.

A checkout that the user names trains the recipe's own networks with the same batch size, crop and losses, as its
published option files would have it: pairs of files, float32, an average of the generator by 0.999. Each `next` is one
step of its `basicsr/train.py`, without that file's log, validation and checkpoints.
"""

import importlib
import itertools
import logging
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from sisr.data.store import Store
from sisr.errors import ConfigError
from sisr.training import opponents

PACKAGES = "addict lmdb opencv-python scikit-image scipy tqdm yapf"
PIXEL_LOSS = ("pixelshuffle", "srresnet")  # by its SRModel
ADVERSARIAL = ("esrgan",)  # by its ESRGANModel
LOADERS_ON_GPU = 6  # processes that load, as its published option files


def require(recipe: str, config: Any, checkout: Path) -> None:
    """Raise ConfigError unless BasicSR can train a recipe's networks with these settings, from this checkout."""
    if not (checkout / "basicsr" / "models" / "sr_model.py").is_file():
        raise ConfigError(f"{checkout} is no checkout of BasicSR: it holds no basicsr/models/sr_model.py")
    if recipe not in (*PIXEL_LOSS, *ADVERSARIAL):
        known = ", ".join((*PIXEL_LOSS, *ADVERSARIAL))
        raise ConfigError(f"BasicSR has no training like {recipe}'s; it has one like that of {known}")
    if recipe in ADVERSARIAL and config.perceptual != "none":
        raise ConfigError(
            "BasicSR's perceptual loss wants weights from the network: --set perceptual=none leaves it out"
        )


def basicsr_loop(
    checkout: Path, recipe: str, config: Any, store: Store, device: torch.device, folder: Path
) -> opponents.Steps:
    """Return BasicSR's loop of a recipe's networks on the images of a store.

    Args:
        checkout: Folder that holds `basicsr/`.
        recipe: One of ours; see `require`.
        config: Its settings.
        store: HR images, which are written as PNG pairs, lr by bicubic interpolation, to
        folder: A folder of the measurement's own.
        device: Where it trains.

    Raises:
        ConfigError: The checkout can't be imported; the message names what is missing.
    """
    _imported(checkout)
    _write_pairs(store, config.scale, folder)
    return _steps(recipe, config, device, folder)


def _steps(recipe: str, config: Any, device: torch.device, folder: Path) -> opponents.Steps:
    data, models, archs = (importlib.import_module(f"basicsr.{name}") for name in ("data", "models", "utils.registry"))
    made = opponents.networks(recipe, config, device, channels_last=False)
    options = _options(config, device, folder) | {"model_type": "SRModel" if recipe in PIXEL_LOSS else "ESRGANModel"}
    for key, network in {"g": made.generator, "d": getattr(made, "discriminator", None)}.items():
        if network is not None:
            options[f"network_{key}"] = {"type": _registered(archs.ARCH_REGISTRY, f"sisr_{key}", network)}
    if recipe in ADVERSARIAL:
        options["train"] |= {
            "pixel_opt": {"type": "L1Loss", "loss_weight": config.pixel_weight},
            "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": config.adversarial_weight},
            "optim_d": {"type": "Adam", "lr": config.discriminator_learning_rate, "betas": _betas(config)},
            "net_d_iters": 1,
            "net_d_init_iters": 0,
        }
    set_ = options["datasets"]["train"]
    loader = data.build_dataloader(data.build_dataset(set_), set_, num_gpu=options["num_gpu"], seed=0)
    prefetch = importlib.import_module("basicsr.data.prefetch_dataloader")
    on_gpu = device.type == "cuda"
    prefetcher = prefetch.CUDAPrefetcher(loader, options) if on_gpu else prefetch.CPUPrefetcher(loader)
    model = models.build_model(options)
    for step in itertools.count(1):
        batch = prefetcher.next()
        if batch is None:
            prefetcher.reset()
            batch = prefetcher.next()
        model.update_learning_rate(step, warmup_iter=-1)
        model.feed_data(batch)
        model.optimize_parameters(step)
        yield


def _options(config: Any, device: torch.device, folder: Path) -> dict[str, Any]:
    """Return what its published option files have in common, with a recipe's sizes and rates."""
    on_gpu = device.type == "cuda"
    train_set = {
        "name": "sisr",
        "type": "PairedImageDataset",
        "phase": "train",
        "dataroot_gt": str(folder / "hr"),
        "dataroot_lq": str(folder / "lr"),
        "io_backend": {"type": "disk"},
        "gt_size": config.hr_crop,
        "scale": config.scale,
        "use_hflip": True,
        "use_rot": True,
        # On a CPU further processes would load while it is the platform's turn.
        "num_worker_per_gpu": LOADERS_ON_GPU if on_gpu else 0,
        "persistent_workers": on_gpu,
        "pin_memory": on_gpu,
        "batch_size_per_gpu": config.batch_size,
    }
    train = {
        "ema_decay": 0.999,
        "optim_g": {"type": "Adam", "lr": config.learning_rate, "weight_decay": 0, "betas": _betas(config)},
        "scheduler": {"type": "MultiStepLR", "milestones": [10**9], "gamma": 0.5},
        "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
    }
    places = {"pretrain_network_g": None, "pretrain_network_d": None, "experiments_root": str(folder)}
    return {
        "name": "sisr",
        "is_train": True,
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "num_gpu": int(on_gpu),
        "scale": config.scale,
        "datasets": {"train": train_set},
        "path": places,
        "train": train,
    }


def _betas(config: Any) -> list[float]:
    return [config.beta1, config.beta2]


def _registered(registry: Any, name: str, network: nn.Module) -> str:
    """Let BasicSR build a copy of a network under a name, which is returned."""
    registry._obj_map[name] = lambda: deepcopy(network)
    return name


def _write_pairs(store: Store, scale: int, folder: Path) -> None:
    for part in ("hr", "lr"):
        (folder / part).mkdir(parents=True)
    for index in range(len(store)):
        image = Image.fromarray(np.asarray(store[index]))
        width, height = (side // scale for side in image.size)
        hr = image.crop((0, 0, width * scale, height * scale))
        hr.save(folder / "hr" / f"{index:05d}.png", compress_level=1)
        hr.resize((width, height), Image.Resampling.BICUBIC).save(folder / "lr" / f"{index:05d}.png", compress_level=1)


def _imported(checkout: Path) -> None:
    """Import BasicSR from a checkout, with what torchvision has moved and a checkout that was never built lacks."""
    # It imports a module that torchvision 0.17 removed, for one function.
    moved: Any = ModuleType("torchvision.transforms.functional_tensor")
    moved.rgb_to_grayscale = importlib.import_module("torchvision.transforms.functional").rgb_to_grayscale
    sys.modules.setdefault(moved.__name__, moved)
    if not (checkout / "basicsr" / "version.py").is_file():  # its setup.py writes it
        version: Any = ModuleType("basicsr.version")
        version.__version__, version.__gitsha__ = "unknown", "unknown"
        sys.modules.setdefault(version.__name__, version)
    sys.path.insert(0, str(checkout.absolute()))
    try:
        importlib.import_module("basicsr")
    except ImportError as error:
        missing = getattr(error, "name", None) or error
        raise ConfigError(f"BasicSR in {checkout} needs {missing}: pip install {PACKAGES}") from error
    finally:
        sys.path.pop(0)
    logging.getLogger("basicsr").setLevel(logging.WARNING)
