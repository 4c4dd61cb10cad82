"""What is known of a recipe without training it: source, cost, networks and settings; of ours, without importing torch.

Recipes of ours are described once for each version of our code; a file in the cache keeps it. A file that is missing or
damaged costs the time to import torch and build the networks, a few seconds.
"""

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from sisr import recipes
from sisr.config.settings import build, expected
from sisr.disk import atomic, cache, code_revision
from sisr.errors import ConfigError, DiskError
from sisr.recipes.outside import Source


def facts(spec: str) -> dict[str, Any]:
    """Return what is known of the recipe `spec`, ready for JSON; raise ConfigError if it is none."""
    source = recipes.find(spec)
    if source.text:  # its networks may come from modules that change
        return describe(source)
    kept = _place(source.name)
    if kept and (found := _read(kept)):
        return found
    found = describe(source)
    if kept and not found["missing"]:  # a package may be installed meanwhile
        _write(kept, found)
    return found


def describe(source: Source) -> dict[str, Any]:
    """Return the same, from the recipe's module, which is executed."""
    module = recipes.load(source.name, source.text, source.where)
    config = build(module.Config, {}, source=source.where)
    defaults = config.model_dump(mode="json")
    summary, sections = read_docstring(module.__doc__ or "")
    return {
        "name": source.name,
        "summary": summary or "no docstring",
        "source": sections.get("Source"),
        "command": sections.get("Command"),
        "measured": sections.get("Measured"),
        "scale": config.scale,
        **_counted(module, config),
        "settings": [
            {"name": name, "default": defaults[name], "wants": expected(field), "meaning": field.description}
            for name, field in module.Config.model_fields.items()
        ],
        "presets": [
            {"name": name, "about": preset.about, "settings": dict(preset.settings), "options": dict(preset.options)}
            for name, preset in module.Config.presets.items()
        ],
    }


def _counted(module: Any, config: Any) -> dict[str, Any]:
    """Return the parameters of a recipe's networks; or why they can't be counted here: a package is missing."""
    try:
        return {"parameters": count_parameters(module, config), "missing": None}
    except ConfigError as error:
        return {"parameters": {}, "missing": str(error)}


def read_docstring(doc: str) -> tuple[str, dict[str, str]]:
    """Return a recipe docstring's first line, and its paragraphs "Word: text" by word."""
    sections = {}
    for paragraph in re.split(r"\n\s*\n", doc.strip()):
        word, colon, text = paragraph.partition(":")
        if colon and word in ("Source", "Command", "Measured"):
            lines = [line.strip() for line in text.strip().splitlines()]
            sections[word] = ("\n" if word == "Command" else " ").join(lines)
    return doc.strip().partition("\n")[0], sections


def count_parameters(module: Any, config: Any) -> dict[str, int]:
    """Return the number of trainable values of every network of a recipe, by name.

    Feature networks are left out: nothing in them is trained, and their weights would be downloaded.
    """
    from torch import nn

    from sisr.recipe import build_recipe, parameter_count, parts_of

    if "perceptual" in module.Config.model_fields:
        config = config.model_copy(update={"perceptual": "none"})
    parts = parts_of(build_recipe(module, config))
    return {name: parameter_count(network) for name, network in parts.items() if isinstance(network, nn.Module)}


def _place(name: str) -> Path | None:
    """Return where a recipe's facts are kept; None where there is no folder for that."""
    try:
        return cache.folder() / "recipes" / f"{name}-{code_revision.digest()}.json"
    except DiskError:
        return None


def _read(path: Path) -> dict[str, Any] | None:
    """Return what `_write` has written; None where it is missing or damaged."""
    try:
        expected_sum, _, text = path.read_text().partition("\n")
        return dict(json.loads(text)) if hashlib.sha256(text.encode()).hexdigest() == expected_sum else None
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, found: dict[str, Any]) -> None:
    text = json.dumps(found)
    with suppress(OSError):
        atomic.write_text(path, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
        for old in path.parent.glob(f"{found['name']}-*.json"):
            if old != path:
                old.unlink(missing_ok=True)
