"""The packed store: pixels equal to decoded ones, built once, rebuilt when files change, safe to share."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sisr.data import packing, store
from sisr.data.images import Verdict, decode
from sisr.data.packing import pack
from sisr.data.sources import ImageFile
from sisr.data.sources.folder import find_images
from sisr.disk.cache import folder as cache_folder
from sisr.errors import DataError, DiskError


def _images(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for i in range(count):
        pixels = rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    _images(tmp_path / "photos", 5)
    return tmp_path / "photos"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_every_image_comes_back_as_it_was_decoded(photos: Path, cache: Path) -> None:
    packed = pack(find_images(photos), cache)
    assert packed.names == [f"{i:03d}.png" for i in range(5)]
    for i, name in enumerate(packed.names):
        np.testing.assert_array_equal(packed[i], decode(photos / name))


def test_pixels_are_views_that_can_t_be_written(photos: Path, cache: Path) -> None:
    image = pack(find_images(photos), cache)[0]
    assert image.base is not None
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0] = 0


def test_a_second_call_reads_no_image(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pack(find_images(photos), cache)
    read = _count_reads(monkeypatch)
    assert pack(find_images(photos), cache).fingerprint == first.fingerprint
    assert read == []


def test_only_files_that_changed_are_read_again(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pack(find_images(photos), cache)
    (photos / "001.png").unlink()
    Image.fromarray(np.full((9, 9, 3), 7, np.uint8)).save(photos / "002.png")
    Image.fromarray(np.full((8, 8, 3), 8, np.uint8)).save(photos / "new.png")
    read = _count_reads(monkeypatch)
    after = pack(find_images(photos), cache)
    assert sorted(read) == ["002.png", "new.png"]
    assert after.fingerprint != before.fingerprint
    for i, name in enumerate(after.names):
        np.testing.assert_array_equal(after[i], decode(photos / name))


def _count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []
    original = packing.examine

    def counted(path: Path) -> tuple[Verdict, Any]:
        read.append(path.name)
        return original(path)

    monkeypatch.setattr(packing, "examine", counted)
    return read


def test_touched_files_give_the_same_fingerprint(photos: Path, cache: Path) -> None:
    before = pack(find_images(photos), cache)
    os.utime(photos / "001.png", ns=(1, 1))
    after = pack(find_images(photos), cache)
    assert after.folder != before.folder
    assert after.fingerprint == before.fingerprint


def test_the_fingerprint_does_not_depend_on_where_the_files_lie(photos: Path, cache: Path) -> None:
    elsewhere = photos.with_name("elsewhere")
    _images(elsewhere, 5)
    assert pack(find_images(photos), cache).fingerprint == pack(find_images(elsewhere), cache).fingerprint


def test_the_store_before_stays_readable_and_older_ones_go(photos: Path, cache: Path) -> None:
    stores = []
    for i in range(3):
        os.utime(photos / "001.png", ns=(i, i))
        stores.append(pack(find_images(photos), cache))
    assert [packed.folder.exists() for packed in stores] == [False, True, True]
    np.testing.assert_array_equal(stores[0][4], decode(photos / "004.png"))  # still mapped


def test_bad_files_are_left_out_named_and_counted(photos: Path, cache: Path) -> None:
    (photos / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 6 image files(.|\n)*bad\.png: empty file"):
        pack(find_images(photos), cache)
    packed = pack(find_images(photos), cache, max_bad_fraction=0.2)
    assert len(packed) == 5
    assert packed.index.reasons() == {"empty file": 1}


def test_what_listing_refused_counts_as_bad(photos: Path, cache: Path) -> None:
    (photos / "loop.png").symlink_to(photos / "loop.png")
    with pytest.raises(DataError, match=r"loop\.png: link"):
        pack(find_images(photos), cache)


def test_progress_counts_every_file_while_building(photos: Path, cache: Path) -> None:
    seen: list[int] = []
    pack(find_images(photos), cache, lambda: seen.append(1))
    assert len(seen) == 5


def test_part_of_a_store_shows_those_images_only(photos: Path, cache: Path) -> None:
    packed = pack(find_images(photos), cache)
    part = packed.subset(["003.png", "001.png", "absent.png"])
    assert part.names == ["001.png", "003.png"]
    np.testing.assert_array_equal(part[1], packed[3])
    assert part.fingerprint == packed.fingerprint
    assert packed.at_least(30, 22).names == ["002.png", "003.png", "004.png"]
    assert len(packed.at_least(31, 1)) == 0


def test_no_file_is_an_error(cache: Path) -> None:
    with pytest.raises(DataError, match="no image files"):
        pack([], cache)


@pytest.mark.slow
def test_processes_that_ask_at_once_get_one_store(photos: Path, cache: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from sisr.data.sources.folder import find_images; from sisr.data.packing import pack\n"
        "built = []\n"
        "packed = pack(find_images(Path(sys.argv[1])), Path(sys.argv[2]), lambda: built.append(1))\n"
        "print(len(packed), packed.fingerprint, bool(built))"
    )
    command = [sys.executable, "-c", code, str(photos), str(cache)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate()[0].split() for process in processes]
    assert len({tuple(words[:2]) for words in said}) == 1
    assert [words[2] for words in said].count("True") == 1


def test_leftovers_of_a_killed_build_are_removed(photos: Path, cache: Path) -> None:
    folder = pack(find_images(photos), cache).folder
    (folder.parent / ".unfinished-1-dead").mkdir()
    os.utime(photos / "001.png", ns=(1, 1))
    pack(find_images(photos), cache)
    assert not list(folder.parent.glob(".unfinished*"))


def test_an_interrupted_build_leaves_nothing_behind(photos: Path, cache: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(find_images(photos), cache, interrupt)
    assert [path.name for path in cache.rglob("*") if path.name != ".lock" and path.is_file()] == []
    assert len(pack(find_images(photos), cache)) == 5


def test_a_cache_that_can_t_be_written_is_named(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match=r"file.*can't be written.*SISR_CACHE"):
        pack(find_images(photos), tmp_path / "file" / "cache")


def test_a_full_disk_is_named_and_nothing_half_written_stays(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=r"No space left on device .*; free some space"):
        pack(find_images(photos), cache)
    assert not list(cache.rglob(".unfinished*"))


def test_a_store_of_another_decoder_is_not_reused(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(find_images(photos), cache)
    monkeypatch.setattr(packing, "DECODER", "another")
    read = _count_reads(monkeypatch)
    packed = pack(find_images(photos), cache)
    assert len(read) == 5
    assert json.loads((packed.folder / store.IMAGES).read_text())["decoder"] == "another"


def test_the_cache_lies_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("SISR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "sisr"


def test_a_file_that_vanished_since_listing_is_refused_by_name(photos: Path, cache: Path) -> None:
    files = [*find_images(photos), ImageFile(photos / "gone.png", "gone.png")]
    with pytest.raises(DataError, match=r"gone\.png: unreadable: No such file"):
        pack(files, cache)


@pytest.mark.data
def test_real_photographs_pack_without_a_refusal(shared_data: Path, cache: Path) -> None:
    packed = pack(find_images(shared_data / "train" / "T91"), cache)
    assert len(packed) == 91
    assert len(packed.at_least(96, 96)) < 91
