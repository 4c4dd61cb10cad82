"""One file is one recipe; the file name is its name. Recipes of other people's are files or modules anywhere."""

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sisr.config.wording import did_you_mean
from sisr.errors import ConfigError
from sisr.recipes import outside
from sisr.recipes.outside import Source

if TYPE_CHECKING:
    from sisr.recipe import RecipeModule


def names() -> list[str]:
    """Return the name of every recipe of ours, sorted. Imports none of them."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "outside")


def find(spec: str) -> Source:
    """Return the recipe that a user calls `spec`, without executing it; one of ours has no text.

    `spec` is a name of ours, the path of a file that ends in .py, or a dotted module.

    Raises:
        ConfigError: There is none; the message suggests the nearest name and lists all, or says what is wrong.
    """
    known = names()
    name = spec.removeprefix(f"{__name__}.")
    if name in known:
        return Source(name, "", name)
    if spec.endswith(".py") or "/" in spec or "." in spec.strip("."):
        return outside.find(spec)
    raise _unknown(spec, f"did you mean {spec}.py?" if Path(f"{spec}.py").is_file() else did_you_mean(spec, known))


def load(name: str, text: str = "", where: str = "") -> "RecipeModule":
    """Return the module of a recipe of ours, or one made by executing `text`.

    `name` is the recipe's, as `find` returns it, never a path; `where` is how messages call its file, else by its name.

    Raises:
        ConfigError: No recipe of ours has this name, or the text is no recipe.
    """
    # Names come from other people's files, too: they are looked up in a list, never imported or searched for.
    if text:
        return cast("RecipeModule", outside.module(_source(name, text, where)))
    if name not in names():
        raise _unknown(name, did_you_mean(name, names()))
    return cast("RecipeModule", importlib.import_module(f"{__name__}.{name}"))


def place_of(error: BaseException, name: str, text: str) -> str | None:
    """Return "file:line: what" for the line of an outside recipe that an error passed last, or None."""
    return outside.place_of(error, _source(name, text, "")) if text else None


def _unknown(name: str, hint: str | None) -> ConfigError:
    listed = f"All recipes: {', '.join(names())}; or name a file that ends in .py, or a module"
    return ConfigError(f"no recipe '{name}'; {hint + ' ' if hint else ''}{listed}")


def _source(name: str, text: str, where: str) -> Source:
    return Source(name, text, where or (name if "." in name else f"{name}.py"))
