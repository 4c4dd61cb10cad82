"""What to do where a recipe's training windows are larger than the images: which setting, and a value that fits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sisr.config.settings import build
from sisr.errors import ConfigError
from sisr.training.run import Run

SIDE, SOURCE, BOX = "hr_crop", "source_side", "box"  # settings of recipes that decide the window
LEAST = 8  # px
STEP = 8  # px, between the sides that are tried
SHARE = 0.1  # of the images may be smaller than the side that is named


def crop_advice(run: Run, sides: NDArray[np.integer[Any]]) -> str:
    """Return which settings fit images with these sides, (n, 2) in px, or which presets; empty: nobody knows."""
    config, module = run.config, run.recipe_module()
    shortest = np.sort(sides.min(axis=1)) if len(sides) else np.zeros(1, int)
    most = int(shortest[int(len(shortest) * SHARE)])
    found = [f"--set {BOX}=null, which lets windows lie anywhere"] if config.get(BOX) else []
    windows = {name: config[name] for name in (SIDE, SOURCE) if name in config}
    if windows and max(windows.values()) > most:
        for side in range(most // STEP * STEP, LEAST - 1, -STEP):
            smaller = {name: min(value, side) for name, value in windows.items()}
            changed = {name: value for name, value in smaller.items() if value != config[name]}
            if _is_accepted(module.Config, {**config, **changed, **({BOX: None} if found else {})}):
                found.append(" ".join(f"--set {name}={value}" for name, value in changed.items()))
                break
    fitting = [name for name, preset in module.Config.presets.items() if _fits({**config, **preset.settings}, most)]
    what = " and ".join(found)
    if fitting:
        what += f"{', or ' if what else ''}--preset {' or '.join(fitting)}"
    return f"; what would do: {what}" if what else ""


def _fits(config: dict[str, Any], most: int) -> bool:
    """Return whether windows fit images whose shorter side is `most` px."""
    windows = [config[name] for name in (SIDE, SOURCE) if name in config]
    return bool(windows) and config.get(BOX) is None and max(windows) <= most


def _is_accepted(model: Any, values: dict[str, Any]) -> bool:
    try:
        build(model, values)
    except ConfigError:
        return False
    return True
