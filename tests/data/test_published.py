"""Packed images at an address: the same images wherever they are fetched, once, whole, and within a limit."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sisr import recipes
from sisr.data.sources import published
from sisr.data.sources.catalogue import Packed, check_source, open_packed
from sisr.driver.run.order import Order, prepare
from sisr.errors import ConfigError, DataError, DiskError
from sisr.terminal import cli


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "published"


def quietly(description: str, total: int) -> AbstractContextManager[Any]:
    return nullcontext(lambda count=1: None)


def photos(folder: Path, seed: int = 0) -> Path:
    folder.mkdir()
    draws = np.random.default_rng(seed)
    for i in range(12):
        Image.fromarray(draws.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def publish(folder: Path, address: str) -> Packed:
    """Publish a folder's images, and return them as they are without that."""
    source = open_packed(str(folder), None, quietly)
    published.publish(source.store, source.name, source.train, source.held_out, address, lambda done, total: None)
    return source


def fetch(address: str) -> Packed:
    return open_packed(address, None, quietly)


def silent(done: int, total: int) -> None:
    raise AssertionError("something was fetched")


def assert_same(found: Packed, expected: Packed) -> None:
    assert (found.name, found.train, found.held_out) == (expected.name, expected.train, expected.held_out)
    assert found.store.fingerprint == expected.store.fingerprint
    assert found.store.names == expected.store.names
    assert all(np.array_equal(found.store[i], expected.store[i]) for i in range(len(expected.store)))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a folder in object storage: a simulated one, over HTTP."""
    server = pytest.importorskip("moto.server", reason="no simulated object storage: pip install 'moto[s3,server]'")
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    simulated = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    simulated.start()
    host, port = simulated.get_host_and_port()
    try:
        boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(Bucket="lab")
        yield f"s3://lab/photos?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    finally:
        simulated.stop()


def test_images_come_back_from_object_storage_as_they_went(tmp_path, bucket):
    expected = publish(photos(tmp_path / "photos"), bucket)
    shutil.rmtree(tmp_path / "photos")
    assert_same(fetch(bucket), expected)


@pytest.mark.slow
def test_an_empty_place_and_a_storage_that_is_away_are_told_apart(bucket):
    with pytest.raises(DataError, match=r"s3://lab/empty\?.* holds no source\.json: put packed images there"):
        fetch(bucket.replace("photos", "empty"))
    with pytest.raises(DataError, match=r"s3://lab/x\?.* can't be reached: .*NETWORK_CONNECTION"):
        fetch("s3://lab/x?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1")


def test_a_machine_fetches_once_and_again_only_what_is_not_whole(tmp_path, cache):
    address = f"file://{tmp_path}/store"
    expected = publish(photos(tmp_path / "photos"), address)
    fetch(address)
    manifest = published.read(address)
    published.fetch(address, manifest, silent)
    (kept,) = [path for path in cache.iterdir() if path.is_dir()]
    os.truncate(kept / "pixels.u8", 100)
    assert_same(fetch(address), expected)


def ask(address: str, told: Any) -> None:
    seen: list[int] = []
    store = published.fetch(address, published.read(address), lambda done, total: seen.append(done))
    told.put((len(store), bool(seen)))


def test_of_processes_that_ask_at_once_one_fetches(tmp_path):
    address = f"file://{tmp_path}/store"
    publish(photos(tmp_path / "photos"), address)
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    asking = [context.Process(target=ask, args=(address, told)) for _ in range(4)]
    for process in asking:
        process.start()
    answers = sorted(told.get(timeout=300) for _ in asking)
    assert answers == [(12, False)] * 3 + [(12, True)]


def test_what_arrives_damaged_is_refused_and_not_kept(tmp_path, cache):
    address = f"file://{tmp_path}/store"
    publish(photos(tmp_path / "photos"), address)
    pixels = tmp_path / "store" / published.read(address).key / "pixels.u8"
    content = bytearray(pixels.read_bytes())
    content[1000] ^= 1
    pixels.write_bytes(content)
    with pytest.raises(DataError, match=r"store: pixels\.u8 arrived with SHA-256 \w+\.\.\., published was \w+"):
        fetch(address)
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_what_a_killed_process_left_is_cleared_away(tmp_path, cache):
    address = f"file://{tmp_path}/store"
    expected = publish(photos(tmp_path / "photos"), address)
    (cache / ".unfinished-1-dead").mkdir(parents=True)
    assert_same(fetch(address), expected)
    assert not list(cache.glob(".unfinished*"))


def test_the_longest_unused_goes_when_the_limit_is_reached_and_its_readers_keep_it(tmp_path, cache, monkeypatch):
    addresses = [f"file://{tmp_path}/store{i}" for i in range(3)]
    for i, address in enumerate(addresses):
        publish(photos(tmp_path / f"photos{i}", seed=i), address)
    sizes = [published.read(address).size for address in addresses]
    monkeypatch.setenv("SISR_CACHE_GB", str(2.5 * max(sizes) / 1e9))
    first, _ = fetch(addresses[0]), fetch(addresses[1])
    expected = first.store[3].copy()
    used = cache / published.read(addresses[1]).key
    os.utime(cache / published.read(addresses[0]).key, (1, 1))
    fetch(addresses[2])
    assert {path.name for path in cache.iterdir() if path.is_dir()} == {
        used.name, published.read(addresses[2]).key,
    }  # fmt: skip
    assert np.array_equal(first.store[3], expected)


def test_images_larger_than_the_limit_are_refused_with_both_sizes(tmp_path, monkeypatch):
    address = f"file://{tmp_path}/store"
    publish(photos(tmp_path / "photos"), address)
    monkeypatch.setenv("SISR_CACHE_GB", "0.000001")
    with pytest.raises(DiskError, match=r"store is 0\.00 GB, and SISR_CACHE_GB allows 1e-06: raise it"):
        fetch(address)
    monkeypatch.setenv("SISR_CACHE_GB", "much")
    with pytest.raises(ConfigError, match="SISR_CACHE_GB=much: give billions of bytes"):
        fetch(address)


def test_publishing_again_replaces_what_others_find_and_leaves_what_they_read(tmp_path):
    address = f"file://{tmp_path}/store"
    publish(photos(tmp_path / "old"), address)
    before = published.read(address)
    expected = publish(photos(tmp_path / "new", seed=1), address)
    assert_same(fetch(address), expected)
    assert len(published.fetch(address, before, lambda done, total: None)) == 12


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nothing://x/y", r"nothing://x/y: an address is s3://BUCKET/PATH, gs://BUCKET/PATH or file:///PATH"),
        ("file:///no/such/place", r"file:///no/such/place holds no source\.json: put packed images there"),
    ],
)
def test_a_wrong_address_is_answered_with_what_would_be_right(address, reason):
    with pytest.raises(DataError, match=reason):
        check_source(address)


def test_held_out_images_of_one_s_own_don_t_go_with_packed_ones(tmp_path):
    with pytest.raises(DataError, match="brings its own held-out images: leave --validation out"):
        check_source(f"file://{tmp_path}/store", str(tmp_path))


def test_a_run_s_images_are_the_same_from_an_address_as_from_the_folder(tmp_path, capsys):
    folder, address = photos(tmp_path / "photos"), f"file://{tmp_path}/store"
    with pytest.raises(SystemExit) as end:
        cli.main(["pack", str(folder), "--publish", address, "--json"])
    assert not end.value.code
    assert json.loads(capsys.readouterr().out)["published"] == address
    values = recipes.load("pixelshuffle").tiny().model_dump(mode="json") | {"hr_crop": 32}
    orders = (Order(recipe="pixelshuffle", values=values, data=data, name="x") for data in (str(folder), address))
    (near, _, expected), (far, _, found) = map(prepare, orders)
    assert far.data == address
    assert (far.fingerprint, found.hashes) == (near.fingerprint, expected.hashes)
    assert found.store.names == expected.store.names
    for ours, theirs in zip(found.validation, expected.validation, strict=True):
        assert np.array_equal(ours, theirs)
