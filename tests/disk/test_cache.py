import os
import pwd
import subprocess
import sys
import tempfile
from itertools import takewhile
from pathlib import Path

import pytest

from sisr.disk import cache
from sisr.errors import DiskError


def test_the_cache_is_where_the_user_says_else_where_the_desktop_says_else_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("SISR_CACHE", raising=False)
    assert cache.folder() == tmp_path / "home/.cache/sisr"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg/sisr"
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "mine"))
    assert cache.folder() == tmp_path / "mine"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user whom the system does not know")
def test_a_user_without_name_and_home_has_a_private_cache(tmp_path: Path) -> None:
    unknown = 54321
    with pytest.raises(KeyError):
        pwd.getpwuid(unknown)
    tmp_path.chmod(0o777)
    for parent in takewhile(lambda path: path != Path(tempfile.gettempdir()), tmp_path.parents):
        parent.chmod(0o755)
    program = (
        "import os, tempfile; from sisr.disk import cache\n"  # which the other user may not read
        f"os.setgid({unknown}); os.setuid({unknown})\n"
        "folder = cache.folder(); folder.mkdir(parents=True)\n"
        "print(folder, oct(cache.home().stat().st_mode & 0o777))"
    )
    environment = {"TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split() == [f"{tmp_path}/sisr-home-{unknown}/.cache/sisr", "0o700"]


def test_a_private_folder_that_others_prepared_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"sisr-home-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"sisr-home-{os.getuid()}").chmod(0o777)
    with pytest.raises(DiskError, match="not ours alone"):
        cache.home()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("~/images", "home/images"),
        ("~", "home"),
        ("~nobody-here/images", "~nobody-here/images"),
        ("a/~", "a/~"),
        ("", "."),
    ],
)
def test_a_path_with_a_home_in_it_is_understood_without_one(
    written: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "home", lambda: Path("home"))
    assert cache.expanded(written) == Path(meant)
