"""Packed images that are not what was packed: found, said, and made anew."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sisr.data import store
from sisr.data.augment import Crop
from sisr.data.batches import Batches
from sisr.data.packing import pack
from sisr.data.sources import published
from sisr.data.sources.folder import find_images
from sisr.data.store import DamagedStoreError, Store
from sisr.doctor import images
from sisr.errors import DataError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    draws = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(draws.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def packed(photos: Path, tmp_path: Path) -> Store:
    return pack(find_images(photos), tmp_path / "cache")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("name", [store.PIXELS, store.SHAPES, store.IMAGES, store.INDEX, store.SUMS])
def test_a_damaged_store_is_packed_anew_with_one_line(
    name: str, damage, photos: Path, packed: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = [packed[i].copy() for i in range(4)]
    damage(packed.folder / name)
    healed = pack(find_images(photos), tmp_path / "cache")
    assert (healed.folder, healed.fingerprint) == (packed.folder, packed.fingerprint)
    for i, pixels in enumerate(expected):
        np.testing.assert_array_equal(healed[i], pixels)
    (said,) = caplog.messages
    assert said.startswith(f"the packed images in {packed.folder} are damaged: ")
    assert said.endswith("; packing them anew")
    pack(find_images(photos), tmp_path / "cache")
    assert len(caplog.messages) == 1


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every store be too large to be read whole when it is opened."""
    monkeypatch.setattr(store, "CHECKED_AT_ONCE", 0)


@pytest.mark.usefixtures("large")
def test_a_flipped_bit_is_found_when_its_image_is_first_used(photos: Path, packed: Store, tmp_path: Path) -> None:
    flip(packed.folder / store.PIXELS)
    opened = pack(find_images(photos), tmp_path / "cache")
    batches = Batches(opened, Crop(side=8), batch_size=4, seed=0)
    with pytest.raises(DataError, match=r"the pixels of [12]\.png have changed; the next start replaces them"):
        batches.take(0, 0, 4)


@pytest.mark.usefixtures("large")
def test_what_one_process_found_damaged_the_next_packs_anew(photos: Path, packed: Store, tmp_path: Path, caplog):
    flip(packed.folder / store.PIXELS)
    with pytest.raises(DamagedStoreError):
        Store(packed.folder).check()
    healed = pack(find_images(photos), tmp_path / "cache")
    healed.check()
    assert "the pixels of 2.png have changed; packing them anew" in caplog.text


@pytest.mark.usefixtures("large")
def test_damaged_pixels_are_not_taken_over_when_files_have_changed(photos: Path, packed: Store, tmp_path: Path) -> None:
    expected = [packed[i].copy() for i in range(4)]
    flip(packed.folder / store.PIXELS)
    os.utime(photos / "3.png", ns=(1, 1))
    renewed = pack(find_images(photos), tmp_path / "cache")
    assert renewed.folder != packed.folder
    for i, pixels in enumerate(expected):
        np.testing.assert_array_equal(renewed[i], pixels)


def test_a_process_killed_by_truncation_is_explained_at_the_next_start(
    photos: Path, packed: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        "import os, sys; from pathlib import Path; from sisr.data.store import Store\n"
        "store = Store(Path(sys.argv[1])); os.truncate(store.folder / 'pixels.u8', 0); print(store[3].sum())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(packed.folder)], timeout=300, check=False)
    assert done.returncode == -signal.SIGBUS
    pack(find_images(photos), tmp_path / "cache")
    assert "pixels.u8 has 0 bytes instead of 7,740; a run that was reading it then was killed by the system" in (
        caplog.text
    )


# -- published


def publish(packed: Store, tmp_path: Path) -> tuple[str, published.Manifest]:
    address = f"file://{tmp_path}/bucket"
    manifest = published.publish(packed, "photos", ["0.png", "1.png"], ["2.png"], address, lambda done, total: None)
    return address, manifest


def fetch(address: str, manifest: published.Manifest, tmp_path: Path) -> tuple[Store, bool]:
    arrived: list[int] = []
    found = published.fetch(address, manifest, lambda done, total: arrived.append(done), tmp_path / "far")
    return found, bool(arrived)


def test_a_damaged_copy_of_published_images_is_fetched_anew(packed: Store, tmp_path: Path, caplog) -> None:
    address, manifest = publish(packed, tmp_path)
    copy, _ = fetch(address, manifest, tmp_path)
    flip(copy.folder / store.PIXELS)
    again, arrived = fetch(address, manifest, tmp_path)
    assert arrived
    np.testing.assert_array_equal(again[2], packed[2])
    assert "the pixels of 2.png have changed; fetching them anew" in caplog.text


@pytest.mark.parametrize("damaged", [False, True])
def test_a_copy_fetched_before_there_were_sums_is_used_unless_damaged(
    damaged: bool, packed: Store, tmp_path: Path
) -> None:
    address, manifest = publish(packed, tmp_path)
    copy, _ = fetch(address, manifest, tmp_path)
    (copy.folder / store.SUMS).unlink()
    if damaged:
        flip(copy.folder / store.PIXELS)
    again, arrived = fetch(address, manifest, tmp_path)
    assert arrived == damaged
    np.testing.assert_array_equal(again[2], packed[2])
    assert (copy.folder / store.SUMS).is_file()


def test_images_published_by_the_first_version_are_read_on(packed: Store, tmp_path: Path, caplog) -> None:
    old = tmp_path / "old"
    shutil.copytree(packed.folder, old)
    (old / store.SUMS).unlink()
    about = json.loads((old / store.IMAGES).read_text())
    about["format"] = about.pop("decoder")  # what it was called in format 1
    (old / store.IMAGES).write_text(json.dumps(about))
    files = {name: published.facts(old / name) for name in (store.PIXELS, store.SHAPES, store.IMAGES, store.INDEX)}
    manifest = published.Manifest("photos", packed.fingerprint, ["0.png"], ["1.png"], files)
    old.rename(tmp_path / "bucket").mkdir(exist_ok=True)
    (tmp_path / "bucket" / manifest.key).mkdir()
    for name in files:
        (tmp_path / "bucket" / name).rename(tmp_path / "bucket" / manifest.key / name)
    content = {"format": 1, "name": "photos", "fingerprint": packed.fingerprint, "train": ["0.png"]}
    (tmp_path / "bucket/source.json").write_text(json.dumps(content | {"held_out": ["1.png"], "files": files}))
    caplog.set_level(logging.WARNING)
    read = published.read(f"file://{tmp_path}/bucket")
    assert read == manifest
    found, _ = fetch(f"file://{tmp_path}/bucket", read, tmp_path)
    assert (found.names, found.fingerprint, caplog.messages) == (packed.names, packed.fingerprint, [])
    np.testing.assert_array_equal(found[3], packed[3])


def test_doctor_examines_the_copy_of_published_images(packed: Store, tmp_path: Path, monkeypatch) -> None:
    address, manifest = publish(packed, tmp_path)
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "far"))
    assert [one.what for one in images.examine(address)] == ["published"]
    copy, _ = fetch(address, manifest, tmp_path)
    assert [(one.what, one.level) for one in images.examine(address)] == [("published", "ok"), ("packed", "ok")]
    flip(copy.folder / store.PIXELS)
    assert [(one.what, one.level) for one in images.examine(address)] == [("published", "ok"), ("packed", "warning")]
