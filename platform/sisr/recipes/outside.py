"""Recipes from outside this package: found as files or modules, and run from their text, which travels with the run.

A worker on another node, or a model loaded later, needs the text alone and not the path that it came from. Only a
module that imports from its own package can't travel: it must be installed wherever the run goes.
"""

import ast
import hashlib
import importlib.util
import linecache
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from sisr.config.settings import Settings
from sisr.errors import ConfigError

EXPORTS = ("Config", "Recipe", "generator", "tiny")
SETTINGS = ("scale", "batch_size", "steps")  # that every Config has
STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")


@dataclass(frozen=True)
class Source:
    """A recipe that is not one of ours."""

    name: str  # the file's stem; the dotted name of a module that needs its package
    text: str
    where: str  # what the user named, for messages

    @property
    def sha256(self) -> str:
        """The text's digest, as `sha256sum` gives it for the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def filename(self) -> str:
        """Its code's file name in tracebacks; a path would differ on another machine."""
        if self.needs_package:
            return str(getattr(sys.modules.get(self.name), "__file__", self.name))
        return f"{self.name}.py"

    @property
    def needs_package(self) -> bool:
        """Whether it must be imported by its name."""
        return "." in self.name


def find(spec: str) -> Source:
    """Return the recipe in the Python file or dotted module `spec`, unexecuted; raise ConfigError if there is none."""
    return _of_file(spec) if spec.endswith(".py") or "/" in spec else _of_module(spec)


def _of_file(spec: str) -> Source:
    path = Path(spec)
    if not path.is_file() or path.suffix != ".py":
        raise ConfigError(f"no recipe file {spec}: name a file that ends in .py")
    if not STEM.fullmatch(path.stem):
        raise ConfigError(f"{spec} can't name runs: call it letters, digits, '_' and '-', at most 48, then .py")
    source = Source(path.stem, _read(path), spec)
    if line := _relative_import(source):
        raise ConfigError(
            f"{spec}:{line} imports relatively, but a recipe's file travels alone: put what it needs into it, "
            "or install its package on every machine and name it as package.module"
        )
    return source


def _of_module(spec: str) -> Source:
    try:
        found = importlib.util.find_spec(spec)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"no recipe {spec}: {error}; name a module on Python's path, or a file") from error
    if found is None or not str(found.origin).endswith(".py"):
        raise ConfigError(f"no recipe {spec}: name a module on Python's path that has a .py file, or a file")
    source = Source(spec, _read(Path(str(found.origin))), spec)
    if found.submodule_search_locations is not None or _relative_import(source):
        return source
    return Source(spec.rpartition(".")[2], source.text, spec)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"recipe {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"recipe {path} is not UTF-8: {error.reason} at byte {error.start}") from error


def _relative_import(source: Source) -> int | None:
    """Return the first line that imports from the recipe's own package, or None."""
    package = source.where.partition(".")[0] if source.needs_package else None
    try:
        parsed = ast.parse(source.text)
    except SyntaxError as error:
        raise ConfigError(f"{source.where}:{error.lineno}: {error.msg}") from error
    except ValueError as error:
        raise ConfigError(f"{source.where} is not Python: {error}") from error
    for node in ast.walk(parsed):
        if isinstance(node, ast.ImportFrom):
            tops: set[str | None] = {None if node.level else str(node.module).partition(".")[0]}
        elif isinstance(node, ast.Import):
            tops = {alias.name.partition(".")[0] for alias in node.names}
        else:
            continue
        if tops & {None, package}:
            return node.lineno
    return None


def module(source: Source) -> ModuleType:
    """Return the recipe's module, executed; the same one for the same text.

    Raises:
        ConfigError: It raises an error, lacks what a recipe exports, or is not installed here as it was elsewhere.
    """
    name = source.name if source.needs_package else f"sisr_user_recipe_{source.name}_{source.sha256[:16]}"
    if name in sys.modules and not source.needs_package:
        return sys.modules[name]
    try:
        made = _installed(source) if source.needs_package else _executed(name, source)
        _check(made, source.where)
    except BaseException as error:
        if not source.needs_package:
            sys.modules.pop(name, None)  # nobody may find it half made
        if isinstance(error, ConfigError) or not isinstance(error, Exception):
            raise
        advice = ""
        if isinstance(error, ModuleNotFoundError):
            advice = f"; a recipe's file travels alone: put '{error.name}' into it, or install it on every machine"
        raise ConfigError(f"{place_of(error, source) or f'recipe {source.where}: {error!r}'}{advice}") from error
    return made


def _installed(source: Source) -> ModuleType:
    try:
        here = _of_module(source.name)
    except ConfigError as error:
        raise ConfigError(
            f"{error}. It imports from its own package, so it can't travel with the run: install that on every machine"
        ) from error
    if here.text != source.text:
        raise ConfigError(f"recipe {source.name} is installed here in another version than where the run was started")
    return importlib.import_module(source.name)


def _executed(name: str, source: Source) -> ModuleType:
    file = source.filename
    linecache.cache[file] = (len(source.text), None, source.text.splitlines(keepends=True), file)  # for tracebacks
    made = sys.modules[name] = ModuleType(name)
    exec(compile(source.text, file, "exec"), made.__dict__)
    return made


def place_of(error: BaseException, source: Source) -> str | None:
    """Return "file:line: what" for the recipe's line that an error passed last, or None if it passed none."""
    file = source.filename
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    text = str(error).partition("\n")[0]
    return f"{source.where}:{lines[-1]}: {type(error).__name__}: {text}" if lines else None


def _check(made: ModuleType, where: str) -> None:
    if missing := [name for name in EXPORTS if not callable(getattr(made, name, None))]:
        raise ConfigError(f"{where} lacks {', '.join(missing)}: a recipe exports {', '.join(EXPORTS)}; see sisr.recipe")
    if not (isinstance(made.Config, type) and issubclass(made.Config, Settings)):
        raise ConfigError(f"{where}: Config must be a class derived from sisr.config.Settings, got {made.Config!r}")
    if missing := [name for name in SETTINGS if name not in made.Config.model_fields]:
        raise ConfigError(f"{where}: Config lacks {', '.join(missing)}; every recipe has {', '.join(SETTINGS)}")
