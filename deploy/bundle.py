"""Write an offline bundle: what this project needs beside what a machine has, for a machine without a network.

`make bundle PYTHON_VERSION=3.12 HAVE=torch==2.11.0,torchvision==0.26.0,numpy` calls this. The bundle is a folder with
the parts of one archive of wheels, `SHA256SUMS`, and `install.sh`, which checks, joins and installs them.

What the machine has is replaced by empty wheels while pip resolves: neither it nor what only it needs is looked for.
Its pins in constraints.txt, which are of this project's own environment, don't count.
"""

import argparse
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheels import BundleError, Wheel, needed, slim, write_stub

REPOSITORY = Path(__file__).resolve().parents[1]
ALWAYS = ("pip", "setuptools")  # to install with, also a checkout of this project
PART_MB = 59
GLIBC = (2, 28)  # that a machine must have at least, as torch's own wheels ask
# Left out of wheels, by the name of their package: Ray's Java, and the sources of its compiled pages.
LEFT_OUT = {"ray": ("ray/jars/*", "*.js.map", "*.css.map")}
ARCHIVE = "wheels.tar"
ROUNDS = 5  # of downloads: each may bring requirements of its own


def split_names(text: str) -> list[str]:
    """Return the words of a list that is written with commas or blanks."""
    return text.replace(",", " ").split()


def pins(constraints: str) -> dict[str, str]:
    """Return the version of each package that a constraints file pins, by canonical name."""
    lines = [line.partition("#")[0].strip() for line in constraints.splitlines()]
    pairs = [line.split("==") for line in lines if "==" in line]
    return {canonicalize_name(name): version for name, version in pairs}


def machine(have: str, pinned: Mapping[str, str]) -> dict[str, Version]:
    """Return the version of each package that a machine has: `NAME==VERSION`, or `NAME` for the version that is pinned.

    Raises:
        BundleError: A name without a version is not pinned.
    """
    found: dict[str, Version] = {}
    for word in split_names(have):
        name, _, version = word.partition("==")
        name = canonicalize_name(name)
        if not version and name not in pinned:
            raise BundleError(f"HAVE: say which version of {name} the machine has, such as {name}==1.0")
        found[name] = Version(version or pinned[name])
    return found


class Parts(io.RawIOBase):
    """A file for writing that is cut into several of at most `limit` bytes: FOLDER/NAME.part-01 and so on."""

    def __init__(self, folder: Path, name: str, limit: int) -> None:
        self._folder, self._name, self._limit = folder, name, limit
        self._room = 0
        self.paths: list[Path] = []

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Append bytes; a new part is begun where the last one is full."""
        rest = memoryview(data).cast("B")
        while rest:
            if not self._room:
                self.paths.append(self._folder / f"{self._name}.part-{len(self.paths) + 1:02d}")
                self._room = self._limit
            piece = rest[: self._room]
            with open(self.paths[-1], "ab") as file:
                file.write(piece)
            self._room -= len(piece)
            rest = rest[len(piece) :]
        return len(data)


def write_bundle(folder: Path, wheels: Iterable[Path], have: Iterable[str], python: str, part_bytes: int) -> list[Path]:
    """Write the parts, what `install.sh` must know, the script and the sums into an empty folder; return the parts."""
    parts = Parts(folder, ARCHIVE, part_bytes)
    with tarfile.open(fileobj=parts, mode="w|") as archive:
        for path in sorted(wheels):
            entry = tarfile.TarInfo(path.name)
            entry.size, entry.mode = path.stat().st_size, 0o644
            with open(path, "rb") as file:
                archive.addfile(entry, file)
    facts = [f"python {python}", *(f"have {name}" for name in have)]
    (folder / "bundle.txt").write_text("".join(f"{fact}\n" for fact in facts))
    checked = [folder / "bundle.txt", *parts.paths]
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in checked]
    (folder / "SHA256SUMS").write_text("".join(sums))
    shutil.copy(Path(__file__).with_name("install.sh"), folder / "install.sh")
    return parts.paths


def platforms(machine_name: str) -> list[str]:
    """Return the platform tags of wheels that run on Linux with `GLIBC`, best first."""
    newest = [f"manylinux_2_{minor}_{machine_name}" for minor in range(GLIBC[1], 4, -1)]
    old = [f"{name}_{machine_name}" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")]
    return newest + old


def pip(*words: str | Path) -> None:
    """Run pip, and say what it says where it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BundleError(f"pip {words[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def collect(work: Path, have: Mapping[str, Version], extras: str, python: str, machine_name: str) -> list[Wheel]:
    """Download into `work` what the project with `extras` needs; return the wheels, the project's own among them."""
    own, stubs, wheels = (work / name for name in ("own", "stubs", "wheels"))
    for place in (own, stubs, wheels):
        place.mkdir()
    pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", own, REPOSITORY)
    (project,) = own.glob("*.whl")
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    kept = [line for line in lines if canonicalize_name(line.partition("==")[0]) not in have]
    (work / "constraints.txt").write_text("\n".join(kept) + "\n")
    target = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
    target += [word for tag in platforms(machine_name) for word in ("--platform", tag)]
    options: list[str | Path] = ["download", "--quiet", "-d", wheels, *target, "-c", work / "constraints.txt"]
    wanted = f"{project}[{extras}]" if extras else str(project)
    pip(*options, *ALWAYS, wanted, *(write_stub(stubs, *entry) for entry in have.items()))
    roots = [Requirement(f"sisr[{extras}]" if extras else "sisr"), *map(Requirement, ALWAYS)]
    for _ in range(ROUNDS):
        found = [wheel for wheel in map(Wheel.read, wheels.glob("*.whl")) if wheel.name not in have]
        names, unmet = needed(roots, {wheel.name: wheel for wheel in found}, have, python)
        if not unmet:
            return [wheel for wheel in found if wheel.name in names]
        pip(*options, "--no-deps", *(f"{one.name}{one.specifier}" for one in unmet))
    raise BundleError(f"no wheels were found for {', '.join(map(str, unmet))}")


def main() -> None:
    """Make the bundle that the command line asks for."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python-version", default=here, help=f"of the machine; default: {here}, as here")
    parser.add_argument("--have", default="", help="packages that the machine has, such as torch==2.11.0,numpy")
    parser.add_argument("--extras", default="test,zoo", help="of this project; default: test,zoo")
    parser.add_argument("--machine", default="x86_64", help="processor, as `uname -m` says; default: x86_64")
    parser.add_argument("--part-mb", type=float, default=PART_MB, help="size of a part in MB; default: %(default)s")
    parser.add_argument("--output", type=Path, help="folder; default: build/bundle-PYTHON")
    given = parser.parse_args()
    folder = given.output or REPOSITORY / "build" / f"bundle-{given.python_version}"
    try:
        have = machine(given.have, pins((REPOSITORY / "constraints.txt").read_text()))
        with tempfile.TemporaryDirectory(prefix="bundle-") as work:
            wheels = collect(Path(work), have, ",".join(split_names(given.extras)), given.python_version, given.machine)
            for wheel in wheels:
                if wheel.name in LEFT_OUT:
                    slim(wheel.path, LEFT_OUT[wheel.name])
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            paths = [wheel.path for wheel in wheels]
            parts = write_bundle(folder, paths, have, given.python_version, int(given.part_mb * 10**6))
    except BundleError as error:
        sys.exit(f"bundle: {error}")
    size = sum(part.stat().st_size for part in parts) / 10**6
    print(f"{folder}: {len(wheels)} wheels, {size:.0f} MB in {len(parts)} parts, for Python {given.python_version}")
    print(f"Copy all of it to the machine; there: sh {folder.name}/install.sh FOLDER")


if __name__ == "__main__":
    main()
