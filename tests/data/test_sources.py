"""Where images come from and which are held out."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sisr.data.sources import ImageFile, hold_out
from sisr.data.sources.catalogue import open_source
from sisr.data.sources.folder import find_images
from sisr.errors import DataError


def _images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / name)


def _names(files: list[ImageFile]) -> list[str]:
    return [file.name for file in files]


def test_a_folder_is_searched_to_the_bottom_and_sorted(tmp_path: Path) -> None:
    _images(tmp_path, "b.png", "a/z.JPG", "a/b/c.webp", "a.bmp")
    (tmp_path / "readme.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("thumbnail of some file manager")
    assert _names(find_images(tmp_path)) == ["a.bmp", "a/b/c.webp", "a/z.JPG", "b.png"]


def test_pictures_that_can_t_be_read_are_in_the_list_and_don_t_vanish(tmp_path: Path) -> None:
    _images(tmp_path, "a.png")
    for name in ("b.avif", "c.tga", "d.GIF", "e.heic"):
        (tmp_path / name).write_bytes(b"x")
    assert _names(find_images(tmp_path)) == ["a.png", "b.avif", "c.tga", "d.GIF", "e.heic"]


def test_a_folder_without_images_is_an_error_that_says_what_was_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no image file; these are read: .*\.png"):
        find_images(tmp_path)


def test_a_link_to_a_folder_above_leads_nowhere_and_counts_nothing_twice(tmp_path: Path) -> None:
    _images(tmp_path, "a/b/c.png")
    (tmp_path / "a/b/up").symlink_to(tmp_path)
    assert _names(find_images(tmp_path)) == ["a/b/c.png"]


def test_a_link_to_itself_is_refused_by_name(tmp_path: Path) -> None:
    _images(tmp_path, "a.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    loop = find_images(tmp_path)[1]
    assert loop.name == "loop.png"
    assert loop.refused is not None
    assert loop.refused[0] == "link"


def test_a_link_to_itself_without_an_image_s_name_is_nothing(tmp_path: Path) -> None:
    _images(tmp_path, "a.png")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert _names(find_images(tmp_path)) == ["a.png"]


def test_links_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    _images(tmp_path, "outside/secret.png", "inside/a.png")
    (tmp_path / "inside/file.png").symlink_to(tmp_path / "outside/secret.png")
    (tmp_path / "inside/folder").symlink_to(tmp_path / "outside")
    found = find_images(tmp_path / "inside")
    assert {file.name: bool(file.refused) for file in found} == {"a.png": False, "file.png": True, "folder": True}


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    _images(tmp_path, "all/a.png", "b.png")
    (tmp_path / "best.png").symlink_to(tmp_path / "all/a.png")
    found = find_images(tmp_path)
    assert _names(found) == ["all/a.png", "b.png", "best.png"]
    assert not any(file.refused for file in found)


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    _images(tmp_path, "real/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert _names(find_images(tmp_path / "link")) == ["a.png"]


def test_a_dangling_link_is_refused_by_name(tmp_path: Path) -> None:
    _images(tmp_path, "a.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert [bool(file.refused) for file in find_images(tmp_path)] == [False, True]


def _files(count: int) -> list[ImageFile]:
    return [ImageFile(Path(f"/x/{i:04d}.png"), f"{i:04d}.png") for i in range(count)]


@pytest.mark.parametrize(("count", "held"), [(2, 1), (19, 1), (20, 2), (91, 9), (159, 15), (160, 16), (5000, 16)])
def test_a_tenth_is_held_out_but_at_least_one_and_at_most_16(count: int, held: int) -> None:
    train, validation = hold_out(_files(count))
    assert len(validation) == held
    assert sorted(_names(train + validation)) == _names(_files(count))
    assert _names(train) == sorted(_names(train))


def test_the_held_out_images_do_not_depend_on_the_order_of_the_files() -> None:
    files = _files(100)
    assert hold_out(files) == hold_out(files[::-1])


def test_another_file_moves_at_most_one_held_out_image() -> None:
    before = set(_names(hold_out(_files(200))[1]))
    after = set(_names(hold_out(_files(201))[1]))
    assert len(before - after) <= 1


def test_a_file_is_not_a_source_and_is_told_so(tmp_path: Path) -> None:
    _images(tmp_path, "a.png")
    with pytest.raises(DataError, match=r"a\.png is one file; accepted are demo, a folder"):
        open_source(str(tmp_path / "a.png"))


def test_an_empty_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _images(tmp_path, "a.png", "b.png", "c.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="the name of the images is empty"):
        open_source("")


def test_a_folder_of_one_image_is_too_few(tmp_path: Path) -> None:
    _images(tmp_path, "a.png")
    with pytest.raises(DataError, match="1 image is too few: there is none to train on"):
        open_source(str(tmp_path))


def test_an_own_validation_folder_leaves_the_whole_source_to_train_on(tmp_path: Path) -> None:
    _images(tmp_path, "train/a.png", "train/b.png", "valid/a.png")
    source = open_source(str(tmp_path / "train"), str(tmp_path / "valid"))
    assert _names(source.train) == ["a.png", "b.png"]
    assert _names(source.validation) == ["validation/a.png"]


def test_a_validation_folder_inside_the_source_is_not_trained_on(tmp_path: Path) -> None:
    _images(tmp_path, "a.png", "b.png", "valid/c.png")
    source = open_source(str(tmp_path), str(tmp_path / "valid"))
    assert _names(source.train) == ["a.png", "b.png"]
    with pytest.raises(DataError, match="none to train on"):
        open_source(str(tmp_path), str(tmp_path))


def test_the_demo_holds_out_photographs_it_does_not_train_on() -> None:
    source = open_source("demo")
    assert _names(source.validation) == ["astronaut.png", "chelsea.png", "coffee.png"]
    assert not set(_names(source.train)) & set(_names(source.validation))
    assert all(file.path.is_file() for file in source.files)


def test_celeba_is_split_as_published_where_the_list_is_there(tmp_path: Path) -> None:
    _images(tmp_path / "img_align_celeba", *(f"{i:06d}.jpg" for i in range(1, 7)))
    parts = [0, 0, 1, 2, 0, 1]
    lines = [f"{i:06d}.jpg {part}" for i, part in enumerate(parts, start=1)]
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    source = open_source(f"celeba:{tmp_path}")
    assert _names(source.train) == ["000001.jpg", "000002.jpg", "000005.jpg"]
    assert _names(source.validation) == ["000003.jpg", "000006.jpg"]


def test_celeba_s_list_is_also_read_as_csv(tmp_path: Path) -> None:
    _images(tmp_path / "img_align_celeba/img_align_celeba", "000001.jpg", "000002.jpg")
    (tmp_path / "list_eval_partition.csv").write_text("image_id,partition\n000001.jpg,0\n000002.jpg,1\n")
    assert _names(open_source(f"celeba:{tmp_path}").validation) == ["000002.jpg"]


def test_an_image_that_celeba_s_list_lacks_is_an_error(tmp_path: Path) -> None:
    _images(tmp_path / "img_align_celeba", "000001.jpg", "000002.jpg")
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(DataError, match=r"does not list 000002\.jpg"):
        open_source(f"celeba:{tmp_path}")


def test_celeba_without_its_list_is_split_like_a_folder(tmp_path: Path) -> None:
    _images(tmp_path, *(f"{i:06d}.jpg" for i in range(20)))
    assert len(open_source(f"celeba:{tmp_path}").validation) == 2


def test_div2k_trains_with_16_of_its_validation_images_and_is_judged_on_all(tmp_path: Path) -> None:
    _images(tmp_path, "DIV2K_train_HR/0001.png", "DIV2K_train_HR/0002.png")
    _images(tmp_path, *(f"DIV2K_valid_HR/{i:04d}.png" for i in range(801, 821)))
    source = open_source(f"div2k:{tmp_path}")
    assert _names(source.train) == ["0001.png", "0002.png"]
    assert len(source.validation) == 16
    assert _names(source.held_out) == [f"DIV2K_valid_HR/{i:04d}.png" for i in range(801, 821)]
    assert len(source.files) == 18
    assert all(name.startswith("DIV2K_valid_HR/08") for name in _names(source.validation))


def test_div2k_elsewhere_is_an_error_that_says_what_was_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="DIV2K_train_HR"):
        open_source(f"div2k:{tmp_path}")


@pytest.mark.parametrize(("spec", "said"), [("celebaa:/x", "did you mean 'celeba:/x'"), ("demoo", "mean 'demo'")])
def test_a_mistyped_source_gets_a_suggestion(spec: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        open_source(spec)


def test_a_file_is_no_source(tmp_path: Path) -> None:
    _images(tmp_path, "a.png")
    with pytest.raises(DataError, match="accepted are demo, a folder"):
        open_source(str(tmp_path / "a.png"))


def test_a_name_that_is_not_text_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    try:
        (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system wants text")
    assert len(hold_out(find_images(tmp_path))[1]) == 1
