"""The checkout as a whole: packaging, Makefile, pinned versions, and what no file may hold."""

import ast
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
SOURCES = [
    path for folder in ("platform", "pipelines", "tests") for path in sorted((REPOSITORY / folder).rglob("*.py"))
]


def relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


# Calls that run what a file or a user says, or that hide errors.
NAMES = {
    "eval": "runs text as code",
    "exec": "runs text as code",
    "pickle.load": "a pickle runs code",
    "pickle.loads": "a pickle runs code",
    "cloudpickle.load": "a pickle runs code",
    "cloudpickle.loads": "a pickle runs code",
    "joblib.load": "a pickle runs code",
    "torch.export.load": "a pickle runs code",
    "torch.jit.load": "runs the file's code",
    "torch.hub.load": "runs a stranger's code",
    "yaml.load": "use sisr.config.read_yaml",
    "yaml.safe_load": "use sisr.config.read_yaml",
    "yaml.unsafe_load": "use sisr.config.read_yaml",
    "yaml.full_load": "use sisr.config.read_yaml",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "tempfile.mktemp": "somebody else may take the name",
}
KEYWORDS = {
    ("weights_only", False): "a pickle runs code",
    ("allow_pickle", True): "a pickle runs code",
    ("shell", True): "runs a shell",
    ("verify", False): "trusts any server",
    ("trust_remote_code", True): "runs a stranger's code",
}
# "file: finding", with the reason why it is right there.
SAFE: dict[str, str] = {
    "platform/sisr/models/export.py: torch.export.load": "reads back the file that it has just written itself",
    "platform/sisr/recipes/outside.py: exec": "a recipe is code; its user has named it (models/trust.py)",
    "platform/sisr/recipes/config_alone.py: exec": "a part of a recipe that its user has named, to train it",
    "tests/models/test_export.py: torch.export.load": "reads files that the test has written",
    "tests/cluster/test_slices.py: pickle.loads": "reads what the test has just pickled",
}


def unsafe(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, what) for every unsafe call and every handler that swallows all errors."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            if name in NAMES:
                yield node.lineno, name
            yield from ((node.lineno, f"{key}={value}") for key, value in KEYWORDS if given.get(key) is value)
            if name == "torch.load" and given.get("weights_only") is not True:
                yield node.lineno, "torch.load without weights_only=True"
        elif isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else None
            silent = all(isinstance(line, ast.Pass) for line in node.body)
            if caught is None or (silent and caught in ("Exception", "BaseException")):
                yield node.lineno, "swallows all errors"


@functools.cache
def unsafe_in(path: Path) -> list[tuple[int, str]]:
    return list(unsafe(ast.parse(path.read_bytes())))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_file_calls_what_is_unsafe(path: Path) -> None:
    found = [f"{relative(path)}:{line}: {what}" for line, what in unsafe_in(path)]
    assert [one for one in found if re.sub(r":\d+:", ":", one) not in SAFE] == []


def test_every_exception_from_safety_is_still_needed() -> None:
    found = {f"{relative(path)}: {what}" for path in SOURCES for _, what in unsafe_in(path)}
    assert set(SAFE) <= found
    assert all(SAFE.values())


@pytest.mark.parametrize(
    "code",
    [
        "read(f, weights_only=False)",
        "torch.load(f)",
        "numpy.load(f, allow_pickle=True)",
        "subprocess.run(c, shell=True)",
        "pickle.load(f)",
        "yaml.load(f, L)",
        "eval(x)",
        "torch.export.load(f)",
        "try: x\nexcept: y",
        "try: x\nexcept Exception: pass",
    ],
)
def test_the_search_for_unsafe_calls_finds_them(code: str) -> None:
    assert len(list(unsafe(ast.parse(code)))) == 1


@pytest.mark.parametrize(
    "code",
    ["torch.load(f, weights_only=True)", "model.eval()", "json.load(f)", "try: x\nexcept OSError: pass"],
)
def test_the_search_for_unsafe_calls_leaves_safe_ones_alone(code: str) -> None:
    assert list(unsafe(ast.parse(code))) == []


def long_functions(tree: ast.AST) -> dict[str, int]:
    """Return the functions whose statements, without parameters and docstring, take more than 60 lines."""
    found = dict[str, int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            statements = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - statements[0].lineno + 1 if statements else 0
            found |= {node.name: lines} if lines > 60 else {}
    return found


def test_no_file_of_the_product_is_longer_than_250_lines_and_no_function_but_the_loop_than_60() -> None:
    product = [path for path in SOURCES if relative(path).startswith(("platform/", "pipelines/"))]
    assert len(product) > 300
    assert {relative(path): n for path in product if (n := len(path.read_text().splitlines())) > 250} == {}
    long = {relative(path): found for path in product if (found := long_functions(ast.parse(path.read_bytes())))}
    assert {path: list(found) for path, found in long.items()} == {"platform/sisr/training/loop.py": ["train"]}


def test_the_source_root_is_no_package_that_would_shadow_the_standard_library() -> None:
    assert not (REPOSITORY / "platform" / "__init__.py").exists()


def test_no_verb_shadows_a_module_when_run_as_a_script() -> None:
    verbs = {path.stem for path in (REPOSITORY / "pipelines").glob("*.py")}
    assert verbs & set(sys.stdlib_module_names) == set()
    assert verbs & {canonicalize_name(name).replace("-", "_") for name in pinned()} == set()


def tracked() -> list[Path]:
    if not (REPOSITORY / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "-C", REPOSITORY, "ls-files", "-z"], capture_output=True, text=True, check=True)
    return [REPOSITORY / name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file()]


def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    words = ["p" + "ypi.org", "p" + "ythonhosted", "--index" + "-url", "extra-index" + "-url", "find" + "-links"]
    paths = r"(?<![\w.\-*}>)])/(?:root|home|work|Users|mnt|opt|srv)/(?!me\b|user\b)[\w.]"
    pattern = re.compile("|".join([paths, *map(re.escape, words)]))
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:  # pictures
            continue
        found += [f"{relative(path)}: {match.group()}" for match in pattern.finditer(text) if path != Path(__file__)]
    assert found == []


def test_what_a_run_leaves_behind_is_not_tracked() -> None:
    unwanted = re.compile(r"\.(pyc|db|pt|safetensors|whl)$|(^|/)(__pycache__|runs|mlruns|mlartifacts|\.venv)/")
    recorded = "tests/training/recorded_run/"  # a run of an earlier version, for the test that it goes on
    found = [name for name in map(relative, tracked()) if unwanted.search(name) and not name.startswith(recorded)]
    assert found == []


def test_the_licence_is_apache_2_in_full() -> None:
    text = (REPOSITORY / "LICENSE").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert all(f"\n   {i}. " in text for i in range(1, 10))
    assert "END OF TERMS AND CONDITIONS" in text


def pinned() -> dict[str, str]:
    """The versions in constraints.txt, by name as written there."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def needed(requirement: Requirement, seen: set[tuple[str, str]]) -> Iterator[str]:
    """Yield the names of all installed distributions that a requirement brings with it."""
    name = canonicalize_name(requirement.name)
    yield name
    for extra in ("", *requirement.extras):
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in metadata.requires(name) or ():
            child = Requirement(line)
            if child.marker is None or child.marker.evaluate({"extra": extra}):
                yield from needed(child, seen)


def test_every_package_is_pinned_at_the_version_that_is_installed() -> None:
    versions: dict[str, str] = {canonicalize_name(name): version for name, version in pinned().items()}
    names = set(needed(Requirement("sisr[dev]"), set())) - {"sisr"}
    assert len(names) > 100
    assert {name: metadata.version(name) for name in names if versions.get(name) != metadata.version(name)} == {}
    assert set(versions) - names == {"pip", "dists-pytorch", "pytorch-fid"}  # of sisr[measures], which no test needs


def test_constraints_are_sorted_exact_versions() -> None:
    names = [name.lower() for name in pinned()]
    assert names == sorted(set(names))
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pinned().values())


def test_every_package_of_ours_is_installed() -> None:
    folders = {path.parent for path in (REPOSITORY / "platform").rglob("__init__.py")}
    ours = {".".join(folder.relative_to(REPOSITORY / "platform").parts) for folder in folders}
    assert ours | {"sisr.pipelines", "sisr.search_spaces"} == set(PROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize(
    ("package", "folder"), [("sisr.pipelines", "pipelines"), ("sisr.search_spaces", "search_spaces")]
)
def test_an_editable_install_sees_the_checkout_s_folders(package: str, folder: str) -> None:
    found = importlib.util.find_spec(package)
    assert found is not None
    assert Path(str(found.origin)) == REPOSITORY / folder / "__init__.py"


def copy_of_sources(target: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", ".git", ".venv")
    for name in ("platform", "pipelines", "search_spaces"):
        shutil.copytree(REPOSITORY / name, target / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (REPOSITORY / name).exists():
            shutil.copy(REPOSITORY / name, target / name)
    return target


@pytest.mark.slow
def test_a_wheel_holds_everything_and_works_by_itself(tmp_path: Path) -> None:
    sources = copy_of_sources(tmp_path / "sources")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", tmp_path, sources], check=True, timeout=300)
    (wheel,) = tmp_path.glob("sisr-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
        held = {name for name in archive.namelist() if name.startswith("sisr/")}

    folders = {"platform/sisr": "sisr", "pipelines": "sisr/pipelines", "search_spaces": "sisr/search_spaces"}
    expected = {
        f"{package}/{path.relative_to(sources / folder)}"
        for folder, package in folders.items()
        for path in (sources / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".typed", ".css", ".js", ".html")
    }
    assert held == expected

    program = "import sisr; print(sisr.__file__); from sisr.terminal.cli import main; main(['--help'])"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[0] == str(tmp_path / "installed" / "sisr" / "__init__.py")
    assert "  recipes  " in done.stdout


FAKE_PYTHON = '#!/bin/sh\necho "$@" >> "$(dirname "$0")/../../calls"\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout whose .venv only writes down what it is asked."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    return tmp_path


def make(folder: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def calls(folder: Path) -> list[str]:
    log = folder / "calls"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [line for line in lines if line != "-c import pip"]


def test_make_install_pins_versions_and_does_nothing_the_second_time(project: Path) -> None:
    make(project, "install")
    installs = calls(project)
    assert len(installs) == 2
    assert all("-c constraints.txt" in line for line in installs)
    make(project, "install")
    assert calls(project) == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_make_install_installs_again_when_a_pinned_version_changed(project: Path, name: str) -> None:
    make(project, "install")
    calls(project)
    with open(project / name, "a") as file:
        file.write("# changed\n")
    make(project, "install")
    assert len(calls(project)) == 2


def test_make_install_starts_over_after_an_interruption(project: Path) -> None:
    python = project / ".venv" / "bin" / "python"
    python.write_text(FAKE_PYTHON + 'case "$*" in *editable*|*"-e "*) exit 1;; esac\n')
    assert subprocess.run(["make", "install"], cwd=project, capture_output=True, timeout=300).returncode != 0
    calls(project)
    python.write_text(FAKE_PYTHON)
    make(project, "install")
    assert len(calls(project)) == 2


def test_make_test_runs_every_chain_to_its_end_and_test_again_what_failed(project: Path) -> None:
    python = project / ".venv" / "bin" / "python"
    make(project, "install")
    calls(project)
    (project / "tests").mkdir()
    (project / "tests" / "test_ray.py").write_text("pytestmark = pytest.mark.ray")
    (project / "tests" / "test_rays.py").write_text("pytestmark = pytest.mark.rays")
    python.write_text(FAKE_PYTHON + 'echo ran; case "$*" in *test_ray.py*) exit 1;; esac\n')
    done = subprocess.run(["make", "test"], cwd=project, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert len([line for line in calls(project) if line.startswith("-m pytest")]) == 5
    ran = sorted(line for line in done.stdout.splitlines() if line.endswith("| ran"))
    assert ran == ["others | ran", "ray | ran", "servers | ran", "sweeps | ran", "training | ran"]
    python.write_text(FAKE_PYTHON)
    make(project, "test-again")
    (again,) = calls(project)
    assert again.endswith("-m ray and not cluster tests/test_ray.py --last-failed --last-failed-no-failures=all")
    make(project, "test-again")
    assert calls(project) == []


def test_make_by_itself_lists_what_it_can_make(project: Path) -> None:
    listed = make(project)
    assert {line.split()[1] for line in listed.splitlines()} >= {"install", "demo", "test", "lint", "ui"}


def test_make_says_what_is_missing_where_no_python_fits(project: Path) -> None:
    shutil.rmtree(project / ".venv")
    tools = project / "tools"
    tools.mkdir()
    for name in ("sh", "cksum", "cut", "cat", "echo", "make"):
        (tools / name).symlink_to(str(shutil.which(name)))
    make_path = tools / "make"
    done = subprocess.run(
        [make_path, "install"], cwd=project, env={"PATH": str(tools)}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (project / ".venv").exists()


@pytest.fixture
def ci(tmp_path: Path) -> Callable[[str], tuple[int, list[str]]]:
    """Return a function that lets `.ci/run` make what a Makefile begins with; its exit code, and what was made."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(REPOSITORY / ".ci" / "run", tmp_path / ".ci" / "run")

    def run(makefile: str) -> tuple[int, list[str]]:
        (tmp_path / "Makefile").write_text(makefile + "%:\n\t@echo made $@\n")
        command = [tmp_path / ".ci" / "run"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        return done.returncode, [line for line in done.stdout.splitlines() if line.startswith(("made", "== all"))]

    return run


def test_ci_runs_install_tests_lint_and_the_tests_over_several_hosts(
    ci: Callable[[str], tuple[int, list[str]]],
) -> None:
    steps = ["made install", "made test", "made lint", "made test-cluster"]
    assert ci("") == (0, [*steps, "== all passed"])


def test_ci_names_what_passes_alone_only_and_fails_for_what_does_not(
    ci: Callable[[str], tuple[int, list[str]]],
) -> None:
    fails = "test:\n\t@exit 3\n"
    code, (_, again, *others, last) = ci(fails)
    assert (code, again, others) == (0, "made test-again", ["made lint", "made test-cluster"])
    assert last == "== all passed but not at once: mend what failed in the first run of make test"
    code, made = ci(fails + "test-again:\n\t@exit 3\n")
    assert (code != 0, made) == (True, ["made install"])
    code, made = ci("lint:\n\t@exit 3\n")
    assert (code != 0, made) == (True, ["made install", "made test"])
