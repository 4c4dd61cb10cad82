"""Imports point one way. Every import statement counts, those inside functions too."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = {"sisr": REPOSITORY / "platform" / "sisr", "sisr.pipelines": REPOSITORY / "pipelines"}

BASIS = "errors config draws recipe"  # what every layer may lean on
# Each layer, and all that it may import of ours. "recipes" is the lookup by name; "recipes.*" are the recipes.
ALLOWED = {
    "errors": "",
    "suggest": "",
    "strict_yaml": "errors",
    "wanted": "",
    "revision": "",
    "config": "errors strict_yaml suggest wanted",
    "draws": "",
    "recipe": "draws",
    "schedules": "",
    "collective": "",
    "console": "",
    "spans": "",
    "footprint": "spans",
    "global_norm": "spans",
    "inference": "data errors footprint global_norm spans",
    "strips": "data errors inference spans",
    "enlarge": "data errors strips",
    "sheet": "errors",
    "animation": "errors sheet",
    "animation_files": "animation errors",
    "animation_limit": "animation animation_files errors sheet",
    "nets": f"{BASIS} collective nets data.bicubic",
    "losses": f"{BASIS} collective losses",
    "data": f"{BASIS} data",
    # A perceptual distance looks with the network that the perceptual loss looks with; it is written once.
    "metrics": f"{BASIS} metrics data.bicubic losses.perceptual",
    "trust": "",
    "recipe_source": "config errors",
    "recipes": "errors recipe recipe_source suggest",
    "recipes.*": f"{BASIS} schedules nets losses data.degradations",
    "reach": "",
    "weights": "errors",
    "zoo": "errors nets.images reach weights",
    "models": f"{BASIS} recipes trust weights zoo",
    "placed": "errors",
    "cost": "spans",
    "export": "errors models placed",
    "slider": "",
    "comparison": "comparison metrics placed slider training",
    "serving": "data enlarge errors inference models serving slider",
    "training": f"{BASIS} console sheet models recipes weights metrics data inference revision training",
    "tracking": "config errors suggest data models inference tracking",
    "display": "console errors training",
    "finding": "",
    "machine": "finding revision",
    "sweep": (
        f"{BASIS} console suggest strict_yaml wanted recipes placed sheet tracking.journal tracking.sweep_folder sweep"
    ),
    "cluster": (
        f"{BASIS} console display finding machine models recipes trust weights metrics data inference revision "
        "serving strict_yaml training tracking sweep cluster"
    ),
    "cli": "errors revision suggest",
    "pipelines": (
        f"{BASIS} cli console finding machine suggest enlarge strips models recipes metrics data inference training "
        "tracking cluster sweep sheet animation animation_files animation_limit placed cost export comparison serving"
    ),
}
# Libraries that only these layers may import. The others are open to all.
ONLY_IN = {
    "ray": "cluster",
    "mlflow": "tracking",
    "optuna": "sweep",
    "typer": "cli pipelines",
    "lpips": "metrics",
    "fastapi": "serving",
    "starlette": "serving",
}
# Layers that import these libraries and the standard library, nothing else.
PURE = {
    "nets": {"torch"},
    "losses": {"torch", "torchvision"},
    "metrics": {"torch", "numpy", "lpips"},  # lpips is optional, and imported where it is used
    "data": {"torch", "numpy", "PIL", "pyarrow"},
}


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            name = ".".join([package, *path.relative_to(folder).with_suffix("").parts])
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


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


def layer(name: str) -> str:
    """The layer of a module of ours."""
    parts = name.split(".")[1:]
    if parts[0] == "recipes" and len(parts) > 1:
        return "recipes.*"
    return parts[0]


def is_allowed(name: str, target: str) -> bool:
    short = target.removeprefix("sisr").removeprefix(".")
    words = ALLOWED[layer(name)].split()
    if not short or short in words:  # the package itself holds the version only
        return True
    if layer(target) == "pipelines":  # verbs share their "_" modules only; the command line looks for all
        return name == "sisr.cli" or (layer(name) == "pipelines" and "._" in target)
    return layer(target) != "recipes.*" and any(short.startswith(f"{word}.") for word in words)


OURS = [name for name in MODULES if name != "sisr"]


@pytest.mark.parametrize("name", OURS)
def test_a_module_imports_only_the_layers_below_it(name: str) -> None:
    assert layer(name) in ALLOWED, f"say in ALLOWED what the new layer '{layer(name)}' may import"
    ours = {target for target in imports(name, MODULES[name]) if target.split(".")[0] == "sisr"}
    assert {target for target in ours if not is_allowed(name, target)} == set()


@pytest.mark.parametrize("name", OURS)
def test_a_library_stays_in_the_layer_that_owns_it(name: str) -> None:
    used = {target.split(".")[0] for target in imports(name, MODULES[name])}
    assert {library for library in used & set(ONLY_IN) if layer(name) not in ONLY_IN[library].split()} == set()
    if layer(name) in PURE:
        assert used - set(sys.stdlib_module_names) - {"sisr"} <= PURE[layer(name)]


def test_every_layer_exists() -> None:
    assert {layer(name) for name in OURS if layer(name)} - {"recipes.*"} <= set(ALLOWED)
    assert set(ALLOWED) - {layer(name) for name in OURS} == set()


@pytest.mark.parametrize(
    ("name", "target", "allowed"),
    [
        ("sisr.recipes.srez", "sisr.losses.pixel", True),
        ("sisr.recipes.srez", "sisr.data.degradations", True),
        ("sisr.recipes.srez", "sisr.data.store", False),
        ("sisr.recipes.srez", "sisr.recipes.pixelshuffle", False),
        ("sisr.recipes.srez", "sisr.training.loop", False),
        ("sisr.training.loop", "sisr.recipes", True),
        ("sisr.training.loop", "sisr.recipes.srez", False),
        ("sisr.training.loop", "sisr.tracking.outbox", False),
        ("sisr.training.loop", "sisr.cluster.train", False),
        ("sisr.tracking.outbox", "sisr.training.run", False),
        ("sisr.cluster.train", "sisr.tracking.outbox", True),
        ("sisr.losses.pixel", "sisr.nets.srez", False),
        ("sisr.metrics.psnr", "sisr.data.bicubic", True),
        ("sisr.metrics.psnr", "sisr.data.images", False),
        ("sisr.metrics.perceptual", "sisr.losses.perceptual", True),
        ("sisr.metrics.perceptual", "sisr.losses.pixel", False),
        ("sisr.pipelines.train", "sisr.cluster.train", True),
        ("sisr.pipelines.train", "sisr.pipelines.evaluate", False),
        ("sisr.pipelines.train", "sisr.pipelines._models", True),
        ("sisr.cluster.train", "sisr.pipelines.train", False),
    ],
)
def test_the_rule_itself(name: str, target: str, allowed: bool) -> None:
    assert is_allowed(name, target) is allowed


@pytest.mark.parametrize(
    "module",
    ["sisr", "sisr.errors", "sisr.config", "sisr.suggest", "sisr.recipes", "sisr.console", "sisr.cli", "sisr.tracking"],
)
def test_what_every_command_imports_is_light(module: str) -> None:
    program = f"import sys, {module}; print(*({{'torch', 'ray', 'mlflow', 'pandas', 'numpy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "\n"
