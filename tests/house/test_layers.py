"""Imports point one way: each room leans on the floors below it only. Imports inside functions count, too."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = {"sisr": REPOSITORY / "platform" / "sisr", "sisr.pipelines": REPOSITORY / "pipelines"}

# The floors, from the ground up. A room may import any room of a lower floor, and of its own those after its colon.
FLOORS = (
    "errors",
    "config  disk  pictures  storage:disk",
    "data",
    "nets  losses:nets  metrics:losses",
    "recipe",
    "terminal  inference  recipes.outside",
    "models.weights",
    "models.zoo",
    "recipes.*",
    "recipes",
    "models",
    "training",
    "tracking  sweep  evaluation  serving",
    "doctor:tracking",
    "driver",
    "cluster:doctor",
    "pipelines",
    "interface",
)
FOUNDATIONS = {"weights", "zoo"}  # what of models lies below the recipes that train any network
LOOSE = {"errors", "recipe"}  # the only modules of ours that lie in no room
NOT_FOR_RECIPES = {"disk", "terminal", "pictures", "inference"}  # floors below them that no paper decides about
# Libraries that only these rooms may import. The others are open to all.
ONLY_IN = {
    "ray": "cluster",
    "mlflow": "tracking",
    "optuna": "sweep",
    "typer": "terminal pipelines interface",
    "lpips": "metrics",
    "pytorch_fid": "metrics",
    "tensorboardX": "tracking",
    "fastapi": "serving",
    "starlette": "serving",
    "spandrel": "models",
    "boto3": "storage",
    "botocore": "storage",
}
# Rooms that import these libraries and the standard library, nothing else.
PURE = {
    "nets": {"torch"},
    "losses": {"torch", "torchvision"},
    "metrics": {"torch", "numpy", "lpips", "pytorch_fid"},  # the last two are optional, and imported where used
    "data": {"torch", "numpy", "PIL", "pyarrow"},
}


def floors() -> dict[str, tuple[int, set[str]]]:
    """The floor of every room, and the rooms beside it that it may import."""
    found = {}
    for height, floor in enumerate(FLOORS):
        for entry in floor.split():
            room, _, beside = entry.partition(":")
            found[room] = (height, set(beside.split(",")) - {""})
    return found


ROOMS = floors()


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            name = ".".join([package, *path.relative_to(folder).with_suffix("").parts])
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()
OURS = [name for name in MODULES if name != "sisr"]


def imports(name: str, path: Path) -> Iterator[str]:
    """Yield every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno} imports relatively; write the full name"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else str(node.module)


def room(name: str) -> str:
    """The room of a module of ours; a recipe has one of its own, and so have the foundations of models."""
    parts = name.split(".")[1:]
    if parts[0] == "models" and set(parts[1:2]) & FOUNDATIONS:
        return ".".join(parts[:2])
    if parts[0] == "recipes" and len(parts) > 1:
        return "recipes.outside" if parts[1] in ("outside", "config_alone") else "recipes.*"
    return parts[0]


def is_allowed(name: str, target: str) -> bool:
    here, there = room(name), room(target)
    if there == "pipelines":  # the command line looks for verbs; verbs share their "_" modules only
        return name == "sisr.terminal.cli" or (here == "pipelines" and "._" in target)
    if there == "recipes.*":
        return False  # recipes are found by name, and never know each other
    if here == "recipes.*" and there in NOT_FOR_RECIPES:
        return False
    height, beside = ROOMS[here]
    return here == there or there in beside or ROOMS[there][0] < height


@pytest.mark.parametrize("name", OURS)
def test_a_module_imports_only_the_floors_below_it(name: str) -> None:
    assert room(name) in ROOMS, f"say in FLOORS where the new room '{room(name)}' lies"
    ours = {target for target in imports(name, MODULES[name]) if target.startswith("sisr.")}
    assert {target for target in ours if not is_allowed(name, target)} == set()


@pytest.mark.parametrize("name", OURS)
def test_a_library_stays_in_the_room_that_owns_it(name: str) -> None:
    used, here = {target.split(".")[0] for target in imports(name, MODULES[name])}, room(name).partition(".")[0]
    assert {library for library in used & set(ONLY_IN) if here not in ONLY_IN[library].split()} == set()
    if room(name) in PURE:
        assert used - set(sys.stdlib_module_names) - {"sisr"} <= PURE[room(name)]


def test_every_room_exists() -> None:
    assert {room(name) for name in OURS} == set(ROOMS)


def test_no_module_lies_outside_the_rooms() -> None:
    assert {path.stem for path in SOURCES["sisr"].glob("*.py")} == LOOSE | {"__init__"}


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_every_room_says_what_it_is_for(name: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[name].read_bytes()))


@pytest.mark.parametrize(
    ("name", "target", "allowed"),
    [
        ("sisr.recipes.srez", "sisr.losses.pixel", True),
        ("sisr.recipes.srez", "sisr.data.degradations", True),
        ("sisr.recipes.srez", "sisr.disk.atomic", False),
        ("sisr.recipes.srez", "sisr.recipes.pixelshuffle", False),
        ("sisr.recipes.srez", "sisr.training.loop", False),
        ("sisr.recipes.finetune", "sisr.models.zoo", True),
        ("sisr.recipes.finetune", "sisr.models.model", False),
        ("sisr.training.loop", "sisr.recipes", True),
        ("sisr.training.loop", "sisr.recipes.srez", False),
        ("sisr.training.loop", "sisr.tracking.outbox", False),
        ("sisr.training.loop", "sisr.cluster.train", False),
        ("sisr.tracking.outbox", "sisr.evaluation.gate", False),
        ("sisr.driver.run.execute", "sisr.cluster.train", False),
        ("sisr.cluster.train", "sisr.tracking.outbox", True),
        ("sisr.losses.pixel", "sisr.recipes", False),
        ("sisr.metrics.psnr", "sisr.data.bicubic", True),
        ("sisr.data.store", "sisr.metrics.psnr", False),
        ("sisr.pipelines.train", "sisr.cluster.train", True),
        ("sisr.pipelines.train", "sisr.pipelines.evaluate", False),
        ("sisr.pipelines.train", "sisr.driver.models", True),
        ("sisr.cluster.train", "sisr.pipelines.train", False),
    ],
)
def test_the_rule_itself(name: str, target: str, allowed: bool) -> None:
    assert is_allowed(name, target) is allowed


@pytest.mark.parametrize(
    "module",
    [
        "sisr",
        "sisr.errors",
        "sisr.interface.functions",
        "sisr.config",
        "sisr.recipes",
        "sisr.terminal.console",
        "sisr.terminal.cli",
        "sisr.tracking",
    ],
)
def test_what_every_command_imports_is_light(module: str) -> None:
    program = f"import sys, {module}; print(*({{'torch', 'ray', 'mlflow', 'pandas', 'numpy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "\n"
