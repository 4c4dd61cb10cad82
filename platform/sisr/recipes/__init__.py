"""One file is one recipe; the file name is its name."""

import importlib
import pkgutil
from typing import TYPE_CHECKING, cast

from sisr.errors import ConfigError
from sisr.suggest import did_you_mean

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
    hint = did_you_mean(name, known)
    raise ConfigError(f"no recipe '{name}'; {hint + ' ' if hint else ''}All recipes: {', '.join(known)}")
