"""One file is one recipe; the file name is its name."""

import difflib
import importlib
import pkgutil
from typing import TYPE_CHECKING, cast

from sisr.errors import ConfigError

if TYPE_CHECKING:
    from sisr.recipe import RecipeModule


def names() -> list[str]:
    """Return the name of every recipe, sorted. Imports none of them."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def load(name: str) -> "RecipeModule":
    """Return the module of the recipe `name`.

    Raises:
        ConfigError: No recipe has this name; the message suggests the nearest and lists all.
    """
    check(name)
    return cast("RecipeModule", importlib.import_module(f"{__name__}.{name}"))


def check(name: str) -> None:
    """Raise ConfigError if no recipe is called `name`, without importing any."""
    known = names()
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    raise ConfigError(f"no recipe '{name}'{hint} All recipes: {', '.join(known)}")
