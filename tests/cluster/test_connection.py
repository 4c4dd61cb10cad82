"""How a command finds a Ray, and what it answers where none works."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sisr.cluster import connection, early, own_ray
from sisr.errors import ConfigError, SisrError


@pytest.fixture
def no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a temporary folder of Ray's in which nothing has been started; no variable names an address."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray._common.utils.get_default_ray_temp_dir", lambda: str(tmp_path))
    monkeypatch.setattr("ray._private.services._cached_find_gcs_addresses", NoProcesses())
    return tmp_path


class NoProcesses:
    """No Ray on this machine, as Ray's look at its processes would find: other tests may run one."""

    def __call__(self) -> set[str]:
        return set()

    def cache_clear(self) -> None:
        """Forget nothing."""


@pytest.fixture
def silent() -> Iterator[str]:
    """Give an address where connections are accepted, by the system, and nobody ever answers: as a hung Ray."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield "{}:{}".format(*server.getsockname())


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return "{}:{}".format(*server.getsockname())


@pytest.mark.parametrize("origin", ["--address", "RAY_ADDRESS", "ray_current_cluster"])
def test_an_address_where_no_ray_answers_is_named_with_its_origin(
    no_ray: Path, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    address = free_address()
    if origin == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", address)
    if origin == "ray_current_cluster":
        (no_ray / "ray_current_cluster").write_text(address)
    with pytest.raises(ConfigError) as error:
        connection.connect(address if origin == "--address" else None)
    for part in (address, origin, "Connection refused", "--address local starts one of its own"):
        assert part in str(error.value)


def test_what_goes_wrong_beside_other_work_is_said_where_the_connection_is_needed(no_ray: Path) -> None:
    address = free_address()
    early.begin(address)
    with pytest.raises(ConfigError, match=f"no Ray answers at {address}"):
        connection.connect(address)
    assert not own_ray.is_own()


def test_who_joins_another_ray_forgets_what_held_for_its_own(no_ray: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in own_ray.MARK.items():
        monkeypatch.setenv(name, value)
    assert own_ray.is_own()
    with pytest.raises(ConfigError):
        connection.connect(free_address())
    assert not own_ray.is_own()
    assert not set(own_ray.MARK) & set(os.environ)


@pytest.mark.slow
def test_a_ray_that_hangs_is_given_up_and_named(no_ray: Path, silent: str) -> None:
    with pytest.raises(ConfigError, match="no answer within 3 s"):
        connection.connect(silent)


@pytest.mark.parametrize("origin", ["--address", "RAY_ADDRESS"])
def test_auto_without_a_ray_says_what_it_wants(no_ray: Path, monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    if origin == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(ConfigError, match=f"^{origin} is auto, which wants a Ray that runs on this machine, and none"):
        connection.connect("auto" if origin == "--address" else None)


def test_doctor_names_an_address_where_a_ray_has_been(no_ray: Path) -> None:
    assert connection.examine().found == "each command starts its own"
    (no_ray / "ray_current_cluster").write_text(free_address())
    assert connection.examine().level == "error"
    assert "`ray stop` removes that file" in connection.examine().found


def test_what_is_no_address_is_refused(no_ray: Path) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        connection.connect("localhost")


def test_a_temporary_path_too_long_for_sockets_gives_way_to_a_short_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ray._common.utils.get_default_ray_temp_dir", lambda: "/tmp/" + "x" * 110)
    assert connection.short_temp() == "/tmp/ray"
    assert "too long for Ray's sockets" in capsys.readouterr().err
    monkeypatch.setattr("ray._common.utils.get_default_ray_temp_dir", lambda: "/tmp/ray")
    assert connection.short_temp() == ""


def test_ending_a_connection_that_nobody_made_does_not_import_ray_before_its_environment_is_set() -> None:
    code = "import sys; from sisr.cluster import connection; connection.shutdown(); sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_ray_that_does_not_start_here_is_no_mistake_of_ours(no_ray: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(SisrError, match=r"did not start on this machine: The current node timed out .*--local"):
        connection.connect("local")
