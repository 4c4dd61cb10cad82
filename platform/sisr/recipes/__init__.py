"""One file is one recipe; the file name is its name. Recipes of other people's are files or modules anywhere."""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sisr.config.settings import Located, Preset, build
from sisr.config.wording import did_you_mean
from sisr.errors import ConfigError
from sisr.recipes import outside
from sisr.recipes.config_alone import config_alone
from sisr.recipes.outside import Source

if TYPE_CHECKING:
    from sisr.recipe import RecipeModule


HELPERS = {"outside", "config_alone"}  # modules here that are no recipes


def names() -> list[str]:
    """Return the name of every recipe of ours, sorted. Imports none of them."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in HELPERS)


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


def check_settings(source: Source, values: Mapping[str, Any], where: str = "--set") -> Any:
    """Refuse wrong settings of a recipe as its `Config` would, but before torch is imported, where that can be.

    Returns the settings, or None where that can't be.

    Raises:
        ConfigError: A name is unknown, or a value has a wrong type or range.
    """
    config = config_alone(_text(source))
    try:
        return config and build(config, values, source=where)
    except ConfigError:
        raise
    except Exception:  # it needs the rest of its file after all: whoever builds the recipe checks again
        return None


def presets(source: Source) -> Mapping[str, Preset]:
    """Return a recipe's presets by name, without importing torch where that can be."""
    config = config_alone(_text(source))
    return (config or load(source.name, source.text, source.where).Config).presets


def preset(source: Source, names: Iterable[str]) -> tuple[Located, dict[str, Any]]:
    """Return the settings and the options of some presets together, where later ones win; each setting knows its place.

    Raises:
        ConfigError: The recipe has no such preset.
    """
    known, values, options = presets(source), Located({}, {}), dict[str, Any]()
    for name in names:
        if name not in known:
            hint = f"it has {', '.join(known) or 'none'}"
            raise ConfigError(f"--preset: recipe {source.name} has no preset '{name}'; {hint}")
        found = known[name]
        values |= Located(found.settings, dict.fromkeys(found.settings, f"--preset {name}"))
        options |= found.options
    return values, options


def place_of(error: BaseException, name: str, text: str) -> str | None:
    """Return "file:line: what" for the line of an outside recipe that an error passed last, or None."""
    return outside.place_of(error, _source(name, text, "")) if text else None


def _text(source: Source) -> str:
    return source.text or Path(__file__).with_name(f"{source.name}.py").read_text()


def _unknown(name: str, hint: str | None) -> ConfigError:
    listed = f"{f'{hint} All' if hint else 'all'} recipes: {', '.join(names())}"
    return ConfigError(f"no recipe '{name}'; {listed}; or name a file that ends in .py, or a module")


def _source(name: str, text: str, where: str) -> Source:
    return Source(name, text, where or (name if "." in name else f"{name}.py"))
