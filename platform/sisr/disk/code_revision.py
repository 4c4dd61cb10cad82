"""Which code this is: a digest of the installed sources, and the commit they were taken from where that can be known.

The digest says what is really installed, on a laptop and on every node of a cluster alike. A commit is known in a git
checkout, and elsewhere from the file `REVISION` in the package's folder, which `python -m sisr.disk.code_revision`
writes before the code is copied without its `.git`. That file is believed only while its digest is that of the code
around it.
"""

import functools
import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sisr.disk import atomic

SUBMITTED = "SISR_SUBMITTED_REVISION"  # of the code on the machine that submitted this run: digest or commit
ROOT = Path(__file__).parents[1]
STAMP = ROOT / "REVISION"
FOLDERS = ("platform", "pipelines", "search_spaces")  # of a checkout, in which all code lies
PACKAGES = ("sisr.pipelines", "sisr.search_spaces")  # which may lie elsewhere
SHORTEST = 7  # characters of a commit or digest that are still taken for it


@functools.cache
def digest() -> str:
    """Return 12 hexadecimal digits that differ where any source file, pipeline or search space differs."""
    sha = hashlib.sha256()
    for name, path in sources():
        sha.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return sha.hexdigest()[:12]


def sources() -> Iterator[tuple[str, Path]]:
    """Yield (name, path) of every source file, pipeline and search space that is installed, the same order anywhere."""
    # Beside a folder called sisr, such as a checkout, Python takes all of that for the package of this name.
    folders = {"sisr": [str(ROOT)]}
    for package in PACKAGES:
        spec = find_spec(package)
        folders[package] = sorted(spec.submodule_search_locations or ()) if spec else []
    for package, found in folders.items():
        for folder in map(Path, found):
            for path in sorted(folder.rglob("*")):
                if path.suffix in (".py", ".yaml"):
                    yield f"{package}/{path.relative_to(folder).as_posix()}", path


@functools.cache
def code_revision() -> dict[str, Any]:
    """Return the code's digest and, where known, its `revision` (commit) and whether it was `changed` since."""
    return {"digest": digest(), **(_from_git() or _from_stamp())}


def write_stamp() -> dict[str, Any]:
    """Write down beside the code which commit it is, for where it is copied without `.git`; return what was written."""
    found = {"digest": digest(), **_from_git(), "files": [name for name, _ in sources()]}
    atomic.write_json(STAMP, found)
    return found


def stamp_fits() -> bool:
    """Return whether the stamp is there and of this code, committed or not."""
    known = {key: value for key, value in _stamp().items() if key != "files"}
    return known == code_revision()


def prune() -> list[Path]:
    """Delete source files that the stamp does not list, and return them.

    Whoever copies code over older code leaves behind what was deleted or renamed since: a recipe that is no more.
    """
    listed = _stamp().get("files")
    if listed is None or _from_git():
        return []
    surplus = [path for name, path in sources() if name not in listed]
    for path in surplus:
        path.unlink()
    return surplus


def complaint_about_submitted() -> str | None:
    """Return in words that this code is not the submitting machine's; None where it is, or where that is not known."""
    submitted, here = os.environ.get(SUBMITTED, "").strip(), code_revision()
    known = [str(here[key]) for key in ("digest", "revision") if key in here]
    if not submitted or (len(submitted) >= SHORTEST and any(name.startswith(submitted) for name in known)):
        return None
    return (
        f"the code installed here is {' of commit '.join(known)}, but the run was submitted from {submitted}: "
        "`ray up -y` with your cluster file, when nothing runs there, renews it on all nodes"
    )


def complaint_about_script(script: Path) -> str | None:
    """Return in words that a pipeline file that was copied here differs from the installed one; None where it doesn't.

    `ray submit` copies one file and nothing else: this is how it shows that the head's code is another.
    """
    spec = find_spec(f"sisr.pipelines.{script.stem}") if script.stem.isidentifier() else None
    installed = Path(spec.origin) if spec and spec.origin else None
    if installed is None or not script.is_file() or installed.read_bytes() == script.read_bytes():
        return None
    return (
        f"{script} is not the {script.name} that is installed here ({installed}): the code here is older or newer than "
        "that on the machine it was submitted from; `ray up -y` with your cluster file, when nothing runs there, "
        "renews it"
    )


def _from_git() -> dict[str, Any]:
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # or a checkout that only surrounds us would answer
        # A cluster's file that was filled in, or a document, makes no other code.
        changed = git("status", "--porcelain", "-uno", "--", *(f":(top){folder}" for folder in FOLDERS))
        return {"revision": git("rev-parse", "HEAD"), "changed": bool(changed)}
    except (OSError, subprocess.SubprocessError):
        return {}


def _from_stamp() -> dict[str, Any]:
    known = {key: value for key, value in _stamp().items() if key != "files"}
    return known if known.get("digest") == digest() else {}


def _stamp() -> dict[str, Any]:
    try:
        return dict(json.loads(STAMP.read_text()))
    except (OSError, ValueError):
        return {}


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            print(json.dumps({key: value for key, value in write_stamp().items() if key != "files"}))
        case ["prune"]:
            for surplus in prune():
                print(f"deleted {surplus}, which is not part of this revision")
        case words:
            print(__doc__, "\nWithout words it writes REVISION; prune deletes what that does not list.", sep="")
            raise SystemExit(0 if words in (["-h"], ["--help"]) else f"code_revision: no {shlex.join(words)!r}")
