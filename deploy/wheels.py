"""Wheels, looked into before anything is installed: what they are, what they need, and how they become smaller."""

import csv
import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version


class BundleError(Exception):
    """A bundle can't be made so; the message says why."""


@dataclass(frozen=True)
class Wheel:
    """What a wheel says of itself."""

    path: Path
    name: str  # canonical
    version: Version
    requires: tuple[Requirement, ...]

    @classmethod
    def read(cls, path: Path) -> "Wheel":
        """Return what the wheel at `path` says."""
        name, version, _, _ = parse_wheel_filename(path.name)
        with zipfile.ZipFile(path) as file:
            entry = next(n for n in file.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
            raw, _ = parse_email(file.read(entry))
        return cls(path, name, version, tuple(Requirement(text) for text in raw.get("requires_dist", [])))


def write_stub(folder: Path, name: str, version: Version) -> Path:
    """Write an empty wheel that stands for a package, and return its path."""
    file_name = name.replace("-", "_")
    path, info = folder / f"{file_name}-{version}-py3-none-any.whl", f"{file_name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def needed(
    roots: Iterable[Requirement], wheels: Mapping[str, Wheel], have: Mapping[str, Version], python: str
) -> tuple[set[str], list[Requirement]]:
    """Return the names of the wheels that `roots` need on a Python of this version, and the requirements not met.

    pip looks at the markers of the Python that it runs on, also where it downloads for another one: what it has found
    may be too much, and too little.

    Raises:
        BundleError: What the machine has is too old or too new.
    """
    target: dict[str, Any] = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    target |= {"implementation_version": f"{python}.0"}
    pending, seen, unmet = list(roots), set[str](), list[Requirement]()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        if name in have:
            if not requirement.specifier.contains(have[name], prereleases=True):
                raise BundleError(f"HAVE: {requirement} is needed, the machine has {have[name]}: leave it out")
            continue
        wheel = wheels.get(name)
        if wheel is None or not requirement.specifier.contains(wheel.version, prereleases=True):
            unmet.append(requirement)
            continue
        for inner in wheel.requires:
            extras = ["", *requirement.extras]
            if inner.marker is None or any(inner.marker.evaluate({**target, "extra": extra}) for extra in extras):
                pending.append(inner)
    names = {canonicalize_name(Requirement(text).name) for text in seen}
    return {name for name in names if name in wheels}, unmet


def slim(path: Path, patterns: Iterable[str]) -> None:
    """Rewrite a wheel without the files that match; its RECORD lists what is left."""
    unfinished = path.with_suffix(".unfinished")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            if any(fnmatch(entry.filename, pattern) for pattern in patterns):
                continue
            data = source.read(entry)
            if entry.filename.endswith(".dist-info/RECORD"):
                rows = csv.reader(io.StringIO(data.decode()))
                text = io.StringIO()
                kept = (row for row in rows if row and not any(fnmatch(row[0], pattern) for pattern in patterns))
                csv.writer(text, lineterminator="\n").writerows(kept)
                data = text.getvalue().encode()
            target.writestr(entry, data, zipfile.ZIP_DEFLATED)
    unfinished.replace(path)
