"""A recipe's `Config` without the rest of its file, so that a wrong setting is answered before torch is imported."""

import ast
import sys
from typing import Any

from pydantic import Field

from sisr.config.degradation import Degradation, RealEsrgan
from sisr.config.settings import Preset, Settings

LIGHT = {*sys.stdlib_module_names, "pydantic"}  # imported as the file says
# What sisr.recipe gives to a Config.
FROM_CONTRACT: dict[str, Any] = {
    "Degradation": Degradation,
    "Field": Field,
    "Preset": Preset,
    "RealEsrgan": RealEsrgan,
    "Settings": Settings,
}


def config_alone(text: str) -> type[Settings] | None:
    """Return the class `Config` of a recipe's text, made without what the text imports besides light modules.

    None where it needs more than that: then only the recipe's module can say what its settings are.
    """
    try:
        namespace: dict[str, Any] = {"__name__": __name__}
        for node in ast.parse(text).body:
            if isinstance(node, ast.ImportFrom) and node.module in ("sisr.recipe", "sisr.config.settings"):
                known = [alias for alias in node.names if alias.name in FROM_CONTRACT]
                namespace |= {alias.asname or alias.name: FROM_CONTRACT[alias.name] for alias in known}
            elif _is_light(node):
                exec(compile(ast.Module([node], []), "<Config>", "exec"), namespace)
        config = namespace["Config"]
    except Exception:  # whatever another Config needs
        return None
    return config if isinstance(config, type) and issubclass(config, Settings) else None


def _is_light(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import):
        return all(alias.name.partition(".")[0] in LIGHT for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return not node.level and str(node.module).partition(".")[0] in LIGHT
    return isinstance(node, ast.ClassDef) and node.name == "Config"
