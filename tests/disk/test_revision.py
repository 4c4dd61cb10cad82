"""Which code this is, with and without git, and how a run submitted from other code is noticed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sisr.disk import code_revision
from sisr.terminal import cli


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """The sources without their `.git`, as the cluster launcher leaves them on a node."""
    for source, target in (("platform/sisr", "sisr"), ("pipelines", "sisr/pipelines")):
        shutil.copytree(
            repository / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__", "REVISION")
        )
    return tmp_path


def ask(copy: Path, program: str) -> str:
    """Return what Python prints that knows no other sisr than the copy."""
    done = subprocess.run([sys.executable, "-S", "-c", program], cwd=copy, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


REVISION = "import json; from sisr.disk import code_revision as revision; print(json.dumps(revision.code_revision()))"
STAMP = "import json; from sisr.disk import code_revision as revision; print(json.dumps(revision.write_stamp()))"


def test_a_checkout_knows_its_commit(repository: Path) -> None:
    if not (repository / ".git").exists():
        pytest.skip("the tests do not run in a git checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True)
    assert code_revision.code_revision()["revision"] == head.stdout.strip()


def test_a_cluster_file_that_was_filled_in_makes_no_other_code(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "platform" / "sisr" / "disk", tmp_path / "platform" / "sisr" / "disk")
    for name in ("__init__.py", "errors.py"):
        shutil.copy(repository / "platform" / "sisr" / name, tmp_path / "platform" / "sisr")
    (tmp_path / "cluster.yaml").write_text("fill in")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "cluster.yaml").write_text("filled in")
    assert json.loads(ask(tmp_path / "platform", REVISION))["changed"] is False
    (tmp_path / "platform" / "sisr" / "errors.py").write_text("class DiskError(Exception): ...\n")
    assert json.loads(ask(tmp_path / "platform", REVISION))["changed"] is True


def test_code_without_git_still_has_a_digest_that_changes_with_it(copy: Path) -> None:
    before = json.loads(ask(copy, REVISION))
    assert set(before) == {"digest"}
    with open(copy / "sisr" / "draws.py", "a") as file:
        file.write("# changed\n")
    assert json.loads(ask(copy, REVISION))["digest"] != before["digest"]


def test_a_stamp_tells_the_commit_only_of_the_code_it_was_written_for(copy: Path) -> None:
    stamp = copy / "sisr" / "REVISION"
    stamp.write_text(json.dumps({**json.loads(ask(copy, STAMP)), "revision": "c" * 40, "changed": False}))
    assert json.loads(ask(copy, REVISION))["revision"] == "c" * 40
    with open(copy / "sisr" / "draws.py", "a") as file:
        file.write("# changed\n")
    assert "revision" not in json.loads(ask(copy, REVISION))


def test_asking_for_help_writes_no_stamp(copy: Path) -> None:
    command = [sys.executable, "-S", "-m", "sisr.disk.code_revision"]
    told = subprocess.run([*command, "--help"], cwd=copy, capture_output=True, text=True, timeout=300)
    assert (told.returncode, "writes REVISION" in told.stdout) == (0, True)
    assert subprocess.run([*command, "pruen"], cwd=copy, capture_output=True, timeout=300).returncode
    assert not (copy / "sisr" / "REVISION").exists()


@pytest.mark.parametrize("key", ["digest", "revision"])
def test_code_that_was_submitted_from_the_same_code_is_no_news(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if key not in code_revision.code_revision():
        pytest.skip("the tests do not run in a git checkout")
    monkeypatch.setenv(code_revision.SUBMITTED, str(code_revision.code_revision()[key]))
    assert code_revision.complaint_about_submitted() is None


@pytest.mark.parametrize("submitted", ["0" * 40, "", "0"])
def test_only_other_code_is_told(submitted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(code_revision.SUBMITTED, submitted)
    complaint = code_revision.complaint_about_submitted()
    assert (complaint is not None) == bool(submitted)


def test_a_run_submitted_from_other_code_is_told_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(code_revision.SUBMITTED, "0" * 40)
    with pytest.raises(SystemExit) as ended:
        cli.main(["recipes", "srez", "--json"])
    assert not ended.value.code
    out, err = capsys.readouterr()
    assert json.loads(out)["recipes"][0]["name"] == "srez"
    assert "submitted from 0000000" in err


def test_a_submitted_pipeline_that_differs_from_the_installed_one_is_told(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "recipes.py"
    shutil.copy(repository / "pipelines" / "recipes.py", script)
    same = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, timeout=300)
    assert (same.returncode, same.stderr) == (0, "")
    script.write_text(script.read_text() + "# newer\n")
    other = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, timeout=300)
    assert other.returncode == 0
    assert "older or newer than that on the machine it was submitted from" in other.stderr


def test_what_an_older_copy_left_behind_is_deleted_and_nothing_else(copy: Path) -> None:
    ask(copy, STAMP)
    before = sorted(copy.rglob("*.py"))
    surplus = copy / "sisr" / "recipes" / "renamed.py"
    surplus.write_text("")
    prune = "from sisr.disk import code_revision as revision; print(*revision.prune())"
    assert ask(copy, prune) == str(surplus)
    assert sorted(copy.rglob("*.py")) == before
    assert ask(copy, prune) == ""


def test_without_a_stamp_nothing_is_deleted(copy: Path) -> None:
    before = sorted(copy.rglob("*.py"))
    assert ask(copy, "from sisr.disk import code_revision as revision; print(*revision.prune())") == ""
    assert sorted(copy.rglob("*.py")) == before


def test_a_folder_of_the_packages_name_in_the_working_folder_is_not_taken_for_it(tmp_path: Path) -> None:
    """As on a node where `~/sisr` is the project: all that is beside the package would be deleted as surplus."""
    (tmp_path / "sisr").mkdir()
    foreign = tmp_path / "sisr" / "foreign.py"
    foreign.touch()
    program = "from sisr.disk import code_revision as revision; print(*(path for _, path in revision.sources()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    listed = done.stdout.split()
    assert str(code_revision.STAMP.with_name("recipe.py")) in listed
    assert str(foreign) not in listed
