"""What a model needs to work where this package is not installed: the modules of ours that it uses, and libraries.

Both are read from the import statements, from the files that a model starts with onwards, so that neither list can be
forgotten when a recipe or a network changes.
"""

import ast
import shutil
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import sisr

PACKAGE = Path(sisr.__file__).parent
ENTRY = Path(__file__).with_name("generator_model.py")
OPTIONAL = {"sisr.models.zoo": "spandrel"}  # what a recipe needs at any rate that imports such a module itself
OWN = "mlflow"  # MLflow adds itself, at its own version, to what a model requires


def ship(recipe: str, extra: Iterable[Path], folder: Path) -> list[str]:
    """Copy the modules that a generator needs into `folder/sisr`, and return the libraries it needs, by exact version.

    Args:
        recipe: One of ours by name; any other name needs no file of ours.
        extra: Further Python files that will be executed with it.
        folder: Exists.
    """
    extra = list(extra)
    executed = [path for path in (PACKAGE / "recipes" / f"{recipe}.py", *extra) if path.is_file()]
    needed = modules([ENTRY, *executed])
    for path in needed:
        target = folder / PACKAGE.name / path.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    named = {name for path in executed for name in _imports(path, everywhere=True)}
    return requirements([ENTRY, *extra, *needed], {OPTIONAL[name] for name in named & OPTIONAL.keys()})


def modules(start: Iterable[Path]) -> list[Path]:
    """Return the files of our package that the files `start` import, or are, directly or through others."""
    found: set[Path] = set()
    waiting = [path for path in start if path.is_file()]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        if path.is_relative_to(PACKAGE) and path != ENTRY:
            found.add(path)
            packages = [parent for parent in path.parents if parent.is_relative_to(PACKAGE)]
            waiting += [package / "__init__.py" for package in packages]
        waiting += [file for name in _imports(path, everywhere=True) if (file := _file(name))]
    return sorted(found)


def requirements(paths: Iterable[Path], others: Iterable[str] = ()) -> list[str]:
    """Return `name==version` of each library that the files import when they are imported, and of `others`.

    What is imported only inside functions does not count: it is for special cases, whose errors name what is missing.
    """
    tops = {name.partition(".")[0] for path in paths for name in _imports(path, everywhere=False)}
    tops |= set(others)
    known = metadata.packages_distributions()
    names = {known[top][0] for top in tops - {PACKAGE.name, OWN} if top in known}
    return sorted(f"{name.lower()}=={metadata.version(name).split('+')[0]}" for name in names)


def _imports(path: Path, *, everywhere: bool) -> Iterator[str]:
    """Yield the dotted names that a file imports: modules, and what is taken from them."""
    tree = ast.parse(path.read_bytes())
    for node in _executed(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield child
            yield from _executed(child)


def _file(name: str) -> Path | None:
    """Return the file of a module of ours; None for anything else."""
    first, *rest = name.split(".")
    place = PACKAGE.joinpath(*rest)
    candidates = [place / "__init__.py", place.with_suffix(".py")] if first == PACKAGE.name else []
    return next((path for path in candidates if path.is_file()), None)
