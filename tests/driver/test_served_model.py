"""What a service does as its alias moves, breaks, or can't be asked: every turn of events, without Ray or MLflow."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from sisr.driver.served_model import Following
from sisr.errors import CheckpointError, DiskError, SisrError, TrackingError
from sisr.serving.release import Release


def release(version: str) -> Release:
    return Release("photos", version, "w", {})


@dataclass
class Service:
    """Takes every release, and counts how often it was mended."""

    release: Release = field(default_factory=lambda: release("1"))
    mended: int = 0

    def mend(self) -> None:
        self.mended += 1

    def replace(self, release: Release) -> None:
        self.release = release


@dataclass
class Source:
    """Gives the versions, or raises the errors, of a script: first what the alias says, then what is fetched."""

    at: str | SisrError
    fetched: SisrError | None = None
    asked: int = 0

    @property
    def registered(self) -> Any:
        return self

    name = "photos"

    def version(self) -> str:
        if isinstance(self.at, SisrError):
            raise self.at
        return self.at

    def release(self, version: str) -> Release:
        self.asked += 1
        if self.fetched:
            raise self.fetched
        return release(version)


@pytest.fixture
def followed(capsys):
    """Return service, source, and a function that looks once and returns what was printed."""
    service, source = Service(), Source("1")
    stand_in: Any = source
    following = Following(service, stand_in)

    def look() -> str:
        following.look()
        return capsys.readouterr().err

    return service, source, look


def test_a_moved_alias_is_followed_once(followed):
    service, source, look = followed
    assert look() == ""
    source.at = "2"
    assert "version 2 from now on" in look()
    assert look() == ""
    assert (service.release.version, source.asked, service.mended) == ("2", 1, 3)


def test_a_version_that_does_not_work_is_reported_once_and_not_fetched_again(followed):
    service, source, look = followed
    source.at, source.fetched = "2", CheckpointError("it makes no image")
    assert "models:/photos/2 is not served: it makes no image; version 1 goes on" in look()
    assert look() == ""
    assert (service.release.version, source.asked) == ("1", 1)
    source.at, source.fetched = "3", None
    assert "version 3 from now on" in look()


@pytest.mark.parametrize("error", [TrackingError("no answer"), CheckpointError("no such alias")])
def test_a_registry_that_can_not_be_asked_is_reported_once_and_asked_again(followed, error):
    _, source, look = followed
    source.at = error
    assert f"{error}; version 1 goes on" in look()
    assert look() == ""
    source.at = "2"
    assert "version 2 from now on" in look()
    source.at = error
    assert f"{error}; version 2 goes on" in look()


def test_what_fails_for_another_reason_than_the_version_itself_is_tried_again(followed):
    _, source, look = followed
    source.at, source.fetched = "2", DiskError("no space")
    assert "no space; version 1 goes on" in look()
    source.fetched = None
    assert "version 2 from now on" in look()


def test_a_model_without_an_alias_only_is_kept_alive(capsys):
    service = Service()
    Following(service, None).look()
    assert (service.mended, capsys.readouterr().err) == (1, "")
