"""Pairs: which files belong together, how both are packed, and that windows are cut from both alike."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paired import pairs, picture, save, shrunk
from sisr.data.augment import to_hr, to_lr
from sisr.data.batches import Batches
from sisr.data.draws import Draws
from sisr.data.images import decode
from sisr.data.packing import pack, place, report
from sisr.data.pairs import of_scale
from sisr.data.sources import published
from sisr.data.sources.catalogue import absolute, open_packed, open_source
from sisr.data.sources.folder import find_images
from sisr.data.sources.pairs import find_pairs, match
from sisr.data.store import Store
from sisr.data.validation import ValidationImages
from sisr.errors import ConfigError, DataError
from sisr.recipe import Crop


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        ("HR/{}.png", "LR/{}.png"),
        ("GT/{}.png", "LQ/{}.png"),
        ("hr/{}.png", "lr/{}.png"),
        ("original/{}.png", "LRbicx2/{}.png"),
        ("DIV2K_train_HR/000{}.png", "DIV2K_train_LR_bicubic/X2/000{}x2.png"),
        ("Set5_HR/{}.png", "Set5_LRx2/{}x2.png"),
        ("X2/HR/{}.png", "X2/LR/{}.png"),
        ("HR/animals/{}.png", "LR/animals/{}.jpg"),
        ("{}.png", "{}_lr.png"),
        ("{}.png", "{}x2.png"),
        ("img_{}_SRF_2_HR.png", "img_{}_SRF_2_LR.png"),
    ],
)
def test_the_usual_layouts_of_one_folder_are_understood(tmp_path: Path, hr: str, lr: str) -> None:
    found = find_pairs(str(pairs(tmp_path / "set", 3, hr=hr, lr=lr)))
    expected = [(tmp_path / "set" / hr.format(i), tmp_path / "set" / lr.format(i)) for i in range(3)]
    assert [(file.path, file.lr) for file in found] == expected
    assert not any(file.refused for file in found)


def test_names_that_are_the_same_go_before_names_that_are_alike() -> None:
    assert match(["box2.png", "a.png"], ["box2.png", "ax2.png"]) == {"box2.png": "box2.png", "a.png": "ax2.png"}
    assert match(["img_2.png", "img_3.png"], ["img_2.png", "img_3.png"]) == {n: n for n in ("img_2.png", "img_3.png")}
    assert match(["1.png"], ["1x4w1.png", "1x4w2.png"]) == {}


def test_two_folders_are_named_wherever_they_are(tmp_path: Path) -> None:
    pairs(tmp_path, 2, hr="a,b/photos/{}.png", lr="elsewhere/small/{}x2.png")
    found = find_pairs(f"{tmp_path}/a,b/photos,{tmp_path}/elsewhere/small")
    assert [file.name for file in found] == ["0.png", "1.png"]
    assert [file.lr and file.lr.name for file in found] == ["0x2.png", "1x2.png"]


def test_a_folder_inside_that_of_the_originals_holds_no_originals(tmp_path: Path) -> None:
    pairs(tmp_path, 2, hr="{}.png", lr="small/{}.png")
    assert [file.name for file in find_pairs(f"{tmp_path},{tmp_path}/small")] == ["0.png", "1.png"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["HR/a.png"], "holds no folder of low resolution.*name two folders, pairs:HR_FOLDER,LR_FOLDER"),
        (["HR/a.png", "LR/X2/ax2.png", "LR/X4/ax4.png"], "holds LR/X2, LR/X4: name two of .*pairs:.*/HR,.*/LR/X4"),
        (["LR/a.png"], "holds low resolution alone: name two folders"),
    ],
)
def test_what_is_no_pair_of_folders_is_told_so(tmp_path: Path, more: list[str], message: str) -> None:
    for name in more:
        save(picture(), tmp_path / name)
    with pytest.raises(DataError, match=message):
        find_pairs(str(tmp_path))


def test_pairs_hold_out_what_the_originals_alone_hold_out(tmp_path: Path) -> None:
    pairs(tmp_path, 30)
    ours, theirs = open_source(f"pairs:{tmp_path}"), open_source(f"{tmp_path}/HR")
    assert [file.name for file in ours.validation] == [file.name for file in theirs.validation]
    assert [file.name for file in ours.train] == [file.name for file in theirs.train]


def test_a_source_of_pairs_means_the_same_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pairs(tmp_path, 2))
    assert absolute("pairs:HR,LR") == f"pairs:{tmp_path}/HR,{tmp_path}/LR"
    assert absolute("pairs:.") == f"pairs:{tmp_path}"
    assert absolute("div2k:.,unknown_x4") == f"div2k:{tmp_path},unknown_x4"


def test_validation_pairs_of_one_s_own_leave_all_others_to_train_on(tmp_path: Path) -> None:
    pairs(tmp_path / "train", 5)
    pairs(tmp_path / "valid", 2)
    for spelled in (f"{tmp_path}/valid", f"pairs:{tmp_path}/valid", f"pairs:{tmp_path}/valid/HR,{tmp_path}/valid/LR"):
        source = open_source(f"pairs:{tmp_path}/train", spelled)
        assert (len(source.train), [file.name for file in source.validation]) == (
            5,
            ["validation/0.png", "validation/1.png"],
        )
        assert all(file.lr for file in source.files)
    with pytest.raises(DataError, match="gives lr, and --data gives none"):
        open_source(f"{tmp_path}/train/HR", f"pairs:{tmp_path}/valid")


@pytest.mark.parametrize(
    ("track", "folder", "name"),
    [("unknown_x4", "LR_unknown/X4", "{}x4"), ("bicubic_x2", "LR_bicubic/x2", "{}x2"), ("mild", "LR_mild", "{}x4m")],
)
def test_the_tracks_of_div2k_are_pairs(tmp_path: Path, track: str, folder: str, name: str) -> None:
    for part, numbers in (("train", range(1, 4)), ("valid", range(801, 804))):
        for number in (f"{n:04d}" for n in numbers):
            save(picture(), tmp_path / f"DIV2K_{part}_HR" / f"{number}.png")
            save(picture(), tmp_path / f"DIV2K_{part}_{folder}" / f"{name.format(number)}.png")
    source = open_source(f"div2k:{tmp_path},{track}")
    assert [file.lr and file.lr.stem for file in source.train] == [name.format(f"000{n}") for n in (1, 2, 3)]
    assert [file.name for file in source.held_out] == [f"DIV2K_valid_HR/080{n}.png" for n in (1, 2, 3)]
    assert [file.lr and file.lr.stem for file in source.held_out] == [name.format(f"080{n}") for n in (1, 2, 3)]
    assert not open_source(f"div2k:{tmp_path}").paired
    with pytest.raises(DataError, match=f"no DIV2K_train_LR of a track 'wild'; there are {track}"):
        open_source(f"div2k:{tmp_path},wild")


@pytest.mark.parametrize("published_valid", [True, False])
def test_of_track_wild_each_take_is_a_pair_and_no_held_out_photograph_is_trained_on(
    tmp_path: Path, published_valid: bool
) -> None:
    for number in range(1, 13):
        save(picture(), tmp_path / "DIV2K_train_HR" / f"{number:04d}.png")
        for take in range(1, 5):
            save(picture(), tmp_path / "DIV2K_train_LR_wild" / f"{number:04d}x4w{take}.png")
    if published_valid:
        save(picture(), tmp_path / "DIV2K_valid_HR/0801.png")
        save(picture(), tmp_path / "DIV2K_valid_LR_wild/0801x4w.png")
    source = open_source(f"div2k:{tmp_path},wild")
    assert all(file.lr and not file.refused for file in source.files)
    assert len({file.name for file in source.files}) == len(source.files)
    for file in source.files:
        assert file.lr is not None
        assert file.lr.stem.startswith(f"{file.path.stem}x4w")
    assert len(source.train) == (48 if published_valid else 44)
    assert not {file.path for file in source.train} & {file.path for file in source.held_out}


# -- packed


def packed(folder: Path, max_bad_fraction: float = 0.01) -> Store:
    return pack(find_pairs(str(folder)), folder / "cache", max_bad_fraction=max_bad_fraction)


def test_both_are_packed_and_come_back_as_they_were_decoded(tmp_path: Path) -> None:
    store = packed(pairs(tmp_path, 3))
    assert store.paired
    for i, name in enumerate(store.names):
        np.testing.assert_array_equal(store[i], decode(tmp_path / "HR" / name))
        np.testing.assert_array_equal(store.lr(i), decode(tmp_path / "LR" / name))
    assert report(open_source(f"pairs:{tmp_path}"), store)["scales"] == {"x2": 3}


def test_what_is_no_pair_is_refused_by_name(tmp_path: Path) -> None:
    pairs(tmp_path, 20)
    (tmp_path / "LR" / "1.png").unlink()
    (tmp_path / "HR" / "2.png").unlink()
    save(decode(tmp_path / "LR" / "3.png")[1:], tmp_path / "LR" / "3.png")
    save(255 - decode(tmp_path / "LR" / "4.png"), tmp_path / "LR" / "4.png")
    (tmp_path / "LR" / "5.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"5 of 20 image files can't be used, more than 1%"):
        packed(tmp_path)
    store = packed(tmp_path, max_bad_fraction=0.3)
    assert {name: (v.kind, v.detail) for name, v in store.index.refused.items()} == {
        "1.png": ("no partner", "no lr image has its name"),
        "2.png (lr)": ("no partner", "no hr image has its name"),
        "3.png": ("another size", "its lr, 3.png: it has 32x23 px; of 64x48 px, x2 would leave 32x24 px"),
        "4.png": ("unrelated", "its lr, 4.png: it shows another picture"),
        "5.png": (store.index.refused["5.png"].kind, store.index.refused["5.png"].detail),
    }
    assert store.index.refused["5.png"].detail.startswith("its lr, 5.png: ")
    assert len(store) == 15


def test_lr_in_another_light_is_still_the_same_picture(tmp_path: Path) -> None:
    pairs(tmp_path, 2)
    save((decode(tmp_path / "LR" / "1.png") // 3).astype(np.uint8), tmp_path / "LR" / "1.png")
    assert len(packed(tmp_path)) == 2


def test_another_lr_is_another_set_of_images(tmp_path: Path) -> None:
    before = packed(pairs(tmp_path, 3)).fingerprint
    assert before != pack(find_images(tmp_path / "HR"), tmp_path / "cache").fingerprint
    lr = decode(tmp_path / "LR" / "1.png").copy()
    lr[0, 0, 0] ^= 1
    save(lr, tmp_path / "LR" / "1.png")
    after = packed(tmp_path)
    assert after.fingerprint != before
    np.testing.assert_array_equal(after.lr(1), lr)


def test_several_low_resolutions_of_the_same_originals_keep_stores_of_their_own(tmp_path: Path) -> None:
    pairs(tmp_path, 2)
    pairs(tmp_path, 2, scale=4, lr="LRx4/{}.png")
    files = [find_images(tmp_path / "HR"), *(find_pairs(f"{tmp_path}/HR,{tmp_path}/{lr}") for lr in ("LR", "LRx4"))]
    assert len({place(each, tmp_path / "cache").parent for each in files}) == 3


def test_a_pack_of_single_images_is_as_it_was(tmp_path: Path) -> None:
    folder = pack(find_images(pairs(tmp_path, 2) / "HR"), tmp_path / "cache").folder
    assert json.loads((folder / "sums.json").read_text())["format"] == 2
    assert "lr_sha256" not in json.loads((folder / "index.json").read_text())
    assert np.load(folder / "images.npy").shape == (2, 3)


@pytest.mark.parametrize("part", [0, 1])
def test_a_changed_pixel_of_either_is_found(tmp_path: Path, part: int) -> None:
    store = packed(pairs(tmp_path, 2))
    content = bytearray((store.folder / "pixels.u8").read_bytes())
    content[int((store.shapes, store.lr_shapes)[part][1, 0])] ^= 1
    (store.folder / "pixels.u8").write_bytes(content)
    with pytest.raises(DataError, match=r"the pixels of 1\.png have changed"):
        Store(store.folder)


def test_pairs_are_published_and_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def quietly(description, total):
        yield lambda count=1: None

    pairs(tmp_path / "set", 12)
    ours = open_packed(f"pairs:{tmp_path}/set", None, quietly)
    address = f"file://{tmp_path}/bucket"
    published.publish(ours.store, ours.name, ours.train, ours.held_out, address, lambda done, total: None)
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "other"))
    theirs = open_packed(address, None, quietly)
    assert (theirs.store.fingerprint, theirs.held_out) == (ours.store.fingerprint, ours.held_out)
    np.testing.assert_array_equal(theirs.store.lr(7), ours.store.lr(7))
    manifest = json.loads((tmp_path / "bucket" / "source.json").read_text())
    assert manifest["format"] == 2, "what knows no pairs must not take them for images"


def test_pairs_of_another_scale_than_the_recipe_s_are_named(tmp_path: Path) -> None:
    pairs(tmp_path, 20)
    save(shrunk(picture(3), 4), tmp_path / "LR" / "3.png")
    store = packed(tmp_path)
    with pytest.raises(DataError, match=r"lr is x2, x4 smaller than hr, and the recipe enlarges x3"):
        of_scale(store, 3, "pairs:x", 0.01)
    with pytest.raises(DataError, match=r"1 of 20 .*1 another scale\n  3\.png: .*its lr is x4 smaller, and the recipe"):
        of_scale(store, 2, "pairs:x", 0.01)
    part, index = of_scale(store, 2, "pairs:x", 0.1)
    assert (len(part), index.reasons()) == (19, {"another scale": 1})


# -- cut


class Planes:
    """Pairs whose hr pixels say where they lie in lr, (row, column); lr says it of itself."""

    def __init__(self, scale: int, height: int = 41, width: int = 50) -> None:
        rows, columns = np.mgrid[: height // scale, : width // scale]
        self.small = np.dstack([rows, columns, 0 * rows]).astype(np.uint8)
        large = self.small.repeat(scale, 0).repeat(scale, 1)
        self.large = np.pad(large, ((0, height - len(large)), (0, width - large.shape[1]), (0, 0)), constant_values=255)
        self.names = ["0.png"]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.large

    def lr(self, index: int) -> np.ndarray:
        return self.small


@pytest.mark.parametrize(
    ("scale", "crop"),
    [
        (2, Crop(side=32, turn=True)),
        (3, Crop(side=24, turn=True)),
        (4, Crop(side=24, flip=False)),
        (4, Crop(side=8, box=(3, 5, 20, 22), turn=True)),
    ],
)
def test_the_same_window_is_cut_from_both_and_turned_alike(scale: int, crop: Crop) -> None:
    batches = Batches(Planes(scale), crop, 8, 1, scale)
    corners = set()
    for step in range(60):
        windows = batches.take(step, 0, 8)
        assert windows.lr is not None
        lr, hr = windows.lr.numpy(), windows.hr.numpy()
        np.testing.assert_array_equal(lr.repeat(scale, 1).repeat(scale, 2), hr)
        corners |= {tuple(corner) for corner in lr.min(axis=(1, 2))[:, :2].tolist()}
    left, top, width, height = crop.box or (0, 0, 50, 41)
    rows = {row for row in range(41 // scale) if top <= row * scale <= top + height - crop.side}
    columns = {column for column in range(50 // scale) if left <= column * scale <= left + width - crop.side}
    assert corners == {(row, column) for row in rows for column in columns}


def test_workers_together_cut_the_pairs_of_one_worker() -> None:
    batches = Batches(Planes(2), Crop(side=8, turn=True), 6, 0, 2)
    whole, parts = batches.take(3, 0, 6), batches.take(3, 0, 6).split([2, 4])
    ours = [batches.take(3, 0, 2), batches.take(3, 2, 4)]
    for one, other in zip(ours, parts, strict=True):
        assert one.lr is not None
        assert other.lr is not None
        assert one.hr.equal(other.hr)
        assert one.lr.equal(other.lr)
    assert whole.hr.shape == (6, 8, 8, 3)


@pytest.mark.parametrize(
    ("crop", "reason"),
    [
        (Crop(side=64, source_side=128), "averages windows of 128 px down to 64 px, and the lr of pairs"),
        (Crop(side=64, rotate_degrees=20), "rotates examples by up to 20 degrees"),
        (Crop(side=18), "x4 need windows of a multiple of 4 px, not of 18 px"),
        (Crop(side=16, box=(2, 0, 17, 40)), "holds no window of 16 px that begins at a multiple of 4 px"),
    ],
)
def test_crops_that_lr_can_t_follow_are_refused_with_the_reason(crop: Crop, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        crop.require_pairs(4)
    Crop(side=16, box=(2, 0, 18, 40), turn=True, brightness=0.1).require_pairs(4)


def test_colours_of_lr_change_as_those_of_hr() -> None:
    windows = Batches(Planes(2), Crop(side=16), 4, 0, 2).take(0, 0, 4)
    assert windows.lr is not None
    crop, draws = Crop(side=16, saturation=0.3, brightness=0.2, contrast=0.3), Draws(0, 0, 0, 4)
    hr, lr = to_hr(windows.hr, crop, draws), to_lr(windows.lr, crop, draws)
    np.testing.assert_allclose(lr.repeat_interleave(2, 2).repeat_interleave(2, 3), hr, atol=1e-6)


@pytest.mark.parametrize("limit", [24, 1000])
def test_validation_pairs_are_cut_on_whole_pixels_of_lr(tmp_path: Path, limit: int) -> None:
    store = packed(pairs(tmp_path, 2))
    images = ValidationImages(store, Crop(side=8), 2, limit)
    for i in range(2):
        large = decode(tmp_path / "HR" / f"{i}.png")
        top, left = (max(0, (side - limit) // 2) // 2 for side in large.shape[:2])
        side = slice(top, top + min(limit, 48) // 2), slice(left, left + min(limit, 64) // 2)
        np.testing.assert_array_equal(images.lr(i), decode(tmp_path / "LR" / f"{i}.png")[side])
        assert images[i].shape[:2] == tuple(2 * n for n in images.lr(i).shape[:2])
        blocks = np.asarray(Image.fromarray(images[i]).resize(images.lr(i).shape[1::-1], Image.Resampling.BOX))
        assert np.abs(blocks.astype(int) - images.lr(i)).mean() < 5
