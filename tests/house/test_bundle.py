"""The offline bundle: what goes into it, how it is cut, and how it is installed where there is no network."""

import base64
import csv
import ensurepip
import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import bundle
from wheels import BundleError, Wheel, needed, slim, write_stub

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
OLD_PIP = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))


def write_wheel(folder: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """A wheel of version 1.0 with these files, RECORD and all."""
    info = f"{name}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [[n, f"sha256={record_digest(content)}", str(len(content))] for n, content in files.items()]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([*rows, [f"{info}/RECORD", "", ""]])
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for n, content in {**files, f"{info}/RECORD": text.getvalue().encode()}.items():
            file.writestr(n, content)
    return path


def record_digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def wheel(name: str, version: str, *requires: str) -> Wheel:
    return Wheel(Path(f"{name}.whl"), name, Version(version), tuple(map(Requirement, requires)))


def names_needed(python: str, have: dict[str, Version], *wheels: Wheel) -> tuple[set[str], list[str]]:
    names, unmet = needed([Requirement("sisr[test]")], {w.name: w for w in wheels}, have, python)
    return names, [str(one) for one in unmet]


PROJECT = wheel("sisr", "1.0", "torch>=2.11", "ray[serve]", 'pytest; extra == "test"', 'boto3; extra == "cluster"')
OTHERS = (wheel("ray", "2.0", "msgpack", 'starlette; extra == "serve"'), wheel("msgpack", "1.0"))
TESTED = (wheel("pytest", "9.0"), wheel("starlette", "1.0"))


def test_a_bundle_has_what_the_project_and_its_extras_need_but_nothing_that_only_the_machines_packages_need() -> None:
    have = {"torch": Version("2.11.0")}
    names, unmet = names_needed("3.12", have, PROJECT, *OTHERS, *TESTED, wheel("sympy", "1.0"), wheel("boto3", "1.0"))
    assert names == {"sisr", "ray", "msgpack", "starlette", "pytest"}
    assert unmet == []


def test_markers_are_those_of_the_machines_python_and_not_of_this_one() -> None:
    both = wheel("msgpack", "1.0", 'backport; python_version < "3.10"', 'forward; python_version >= "3.99"')
    have = {"torch": Version("2.11.0")}
    assert names_needed("3.9", have, PROJECT, OTHERS[0], both, *TESTED)[1] == ['backport; python_version < "3.10"']
    assert names_needed("3.99", have, PROJECT, OTHERS[0], both, *TESTED)[1] == ['forward; python_version >= "3.99"']


def test_what_the_machine_has_must_be_new_enough() -> None:
    with pytest.raises(BundleError, match=r"torch>=2.11 is needed, the machine has 2.10"):
        names_needed("3.12", {"torch": Version("2.10")}, PROJECT, *OTHERS, *TESTED)


def test_a_name_without_a_version_stands_for_the_pinned_one() -> None:
    pinned = bundle.pins("# exact versions\nnumpy==2.4.6\nPyYAML==6.0.3\n")
    found = bundle.machine("torch==2.11.0, numpy", pinned)
    assert found == {"torch": Version("2.11.0"), "numpy": Version("2.4.6")}
    with pytest.raises(BundleError, match=r"torchvision==1.0"):
        bundle.machine("torchvision", pinned)


def test_a_smaller_wheel_lists_exactly_what_it_holds(tmp_path: Path) -> None:
    kept, dropped = {"ray/a.py": b"a = 1\n"}, {"ray/jars/ray_dist.jar": b"java", "ray/js/main.1.js.map": b"{}"}
    path = write_wheel(tmp_path, "ray", {**kept, **dropped})
    slim(path, bundle.LEFT_OUT["ray"])
    with zipfile.ZipFile(path) as file:
        content = {name: file.read(name) for name in file.namelist()}
    rows = list(csv.reader(io.StringIO(content["ray-1.0.dist-info/RECORD"].decode())))
    assert {row[0] for row in rows} == content.keys()
    assert not content.keys() & dropped.keys()
    for name, digest, size in rows[:-1]:
        assert (digest, size) == (f"sha256={record_digest(content[name])}", str(len(content[name])))


def made(folder: Path, *, have: tuple[str, ...] = (), python: str = HERE) -> Path:
    """A bundle of pip and of a package `greeting`, in parts of 300,000 bytes."""
    folder.mkdir()
    source = "import importlib.metadata, of_the_machine\nprint('hello from', importlib.metadata.version('greeting'))\n"
    greeting = write_wheel(folder, "greeting", {"greeting.py": source.encode()})
    place = folder / "bundle"
    place.mkdir()
    bundle.write_bundle(place, [greeting, OLD_PIP], have, python, 300_000)
    return place


def test_the_parts_are_below_the_size_and_joined_they_are_the_archive(tmp_path: Path) -> None:
    place = made(tmp_path / "made")
    parts = sorted(place.glob("wheels.tar.part-*"))
    sizes = [part.stat().st_size for part in parts]
    assert len(parts) > 3
    assert set(sizes[:-1]) == {300_000}
    assert 0 < sizes[-1] <= 300_000
    (tmp_path / "joined.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    shutil.unpack_archive(tmp_path / "joined.tar", tmp_path / "out", filter="data")
    assert (tmp_path / "out" / OLD_PIP.name).read_bytes() == OLD_PIP.read_bytes()


def install(place: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", place / "install.sh", *words], capture_output=True, text=True)


def test_a_damaged_part_is_refused_by_name(tmp_path: Path) -> None:
    place = made(tmp_path / "made")
    damaged = place / "wheels.tar.part-02"
    content = bytearray(damaged.read_bytes())
    content[1000] ^= 1
    damaged.write_bytes(content)
    refused = install(place, tmp_path / "environment", sys.executable)
    assert refused.returncode == 1
    assert "wheels.tar.part-02 is damaged" in refused.stderr
    assert not (tmp_path / "environment").exists()


def test_a_part_that_was_not_copied_is_named(tmp_path: Path) -> None:
    place = made(tmp_path / "made")
    (place / "wheels.tar.part-03").unlink()
    refused = install(place, tmp_path / "environment", sys.executable)
    assert refused.returncode == 1
    assert "wheels.tar.part-03 is missing" in refused.stderr


def test_another_python_is_refused_and_so_is_one_without_what_the_bundle_leaves_out(tmp_path: Path) -> None:
    other = install(made(tmp_path / "one", python="3.99"), tmp_path / "environment", sys.executable)
    assert f"for Python 3.99, {sys.executable} is {HERE}" in other.stderr
    lacking = install(made(tmp_path / "two", have=("no-such-package",)), tmp_path / "environment", sys.executable)
    assert "leaves out no-such-package" in lacking.stderr
    assert (other.returncode, lacking.returncode) == (1, 1)


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "environment").mkdir()
    refused = install(made(tmp_path / "made"), tmp_path / "environment", sys.executable)
    assert (refused.returncode, list((tmp_path / "environment").iterdir())) == (1, [])
    assert "is there already" in refused.stderr


@pytest.mark.slow
def test_an_environment_is_made_without_a_network_and_sees_what_the_machine_has(tmp_path: Path) -> None:
    # The machine: an environment with a package that the bundle leaves out.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "machine"], check=True)
    site = tmp_path / "machine" / "lib" / f"python{HERE}" / "site-packages"
    with zipfile.ZipFile(write_stub(tmp_path, "of-the-machine", Version("3.0"))) as stub:
        stub.extractall(site)
    (site / "of_the_machine.py").write_text("")

    place = made(tmp_path / "made", have=("of-the-machine",))
    done = install(place, tmp_path / "environment", tmp_path / "machine" / "bin" / "python")
    assert done.returncode == 0, done.stderr
    python = tmp_path / "environment" / "bin" / "python"
    said = subprocess.run([python, "-m", "greeting"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout == "hello from 1.0\n"
    assert not (tmp_path / "environment.unpacked").exists()
