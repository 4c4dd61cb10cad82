"""What OpenModelDB, where people find models, wants to know of one: a JSON object.

Its fields: https://github.com/OpenModelDB/open-model-database, src/lib/schema.ts.
"""

import hashlib
import time
from pathlib import Path
from typing import Any

from sisr.models.model import Model
from sisr.models.zoo import Adapted

# What the database calls architectures, where it is not the class's name in small letters.
NAMES = {"RRDBNet": "esrgan", "MSRResNet": "sr-res-net", "SRVGGNetCompact": "compact", "HAT": "HAT", "GRL": "GRL"}


def described(model: Model, file: Path, licence: str | None, author: str | None) -> dict[str, Any]:
    """Return what is known of a model that was written to `file`, which is read for its SHA-256.

    `licence` is an SPDX expression; None: none was given. What nobody knows but its author (tags, addresses, sample
    pictures) is empty.
    """
    meta, config = model.meta, model.meta.get("config", {})
    known = {
        "trainingIterations": meta.get("step"),
        "trainingBatchSize": config.get("batch_size"),
        "trainingHRSize": config.get("hr_crop"),
        "trainingOTF": True if "recipe" in meta else None,
        "dataset": _dataset(meta),
    }
    return {
        "name": file.stem,
        "author": author or [],
        "license": licence,
        "tags": [],
        "description": _description(model),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "architecture": architecture(model),
        "size": model.generator.tags if isinstance(model.generator, Adapted) else None,
        "scale": model.scale,
        "inputChannels": 3,
        "outputChannels": 3,
        "resources": [
            {
                "platform": "pytorch",
                "type": "safetensors",
                "size": file.stat().st_size,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "urls": [],
            }
        ],
        "images": [],
        **{name: value for name, value in known.items() if value is not None},
    }


def architecture(model: Model) -> str:
    """Return the database's name of a model's architecture."""
    network = model.generator
    name = network.architecture.name if isinstance(network, Adapted) else type(network).__name__
    return NAMES.get(name, name.lower())


def _dataset(meta: dict[str, Any]) -> str | None:
    """Return the images' name, without the place where they lie."""
    layout, colon, place = str(meta.get("data", "")).rpartition(":")
    name = Path(place).name
    return f"{layout}{colon}{name}" if name and "/" not in layout else name or None


def _description(model: Model) -> str:
    meta = model.meta
    if "recipe" not in meta:
        return f"A {meta.get('architecture', 'network')} of unknown origin."
    begun = f" It began as {Path(meta['init']).name}." if meta.get("init") else ""
    return f"Trained with sisr's recipe {meta['recipe']}.{begun}"
