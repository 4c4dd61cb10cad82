"""What all tests share: isolation from the user's machine, and the real images where they are present."""

import atexit
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Set before anything imports torch, ray or mlflow, and inherited by every process a test starts.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray reads its token once a process, from wherever HOME points at that moment; some tests move HOME.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
# Whoever names no address joins a Ray that runs on this machine: these tests neither find one of the user's, nor one of
# tests that run beside them. The path is short because those of sockets are.
if "RAY_TMPDIR" not in os.environ:
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="tests-", dir="/tmp")
    atexit.register(shutil.rmtree, os.environ["RAY_TMPDIR"], ignore_errors=True)
# A shell lets its background jobs ignore Ctrl-C, and so all that they start; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
    os.environ.pop(name, None)

pytest_plugins = ["forked_courier", "mlflow_shortcuts", "object_storage", "trained_runs", "two_workers", "gpus"]

REPOSITORY = Path(__file__).resolve().parents[1]
CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
CHROMIUM += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--mute-audio"]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests pack images: shared by the session's tests, gone afterwards."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", autouse=True)
def search_path() -> list[str]:
    """Where Python looks for modules before any test has run."""
    return sys.path[:]


@pytest.fixture(autouse=True)
def isolated(
    tmp_path: Path, session_cache: Path, search_path: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Run every test in an empty folder of its own: nothing is written to the checkout or the home folder."""
    monkeypatch.setenv("SISR_CACHE", str(session_cache))
    monkeypatch.chdir(tmp_path)
    yield
    # MLflow puts the code of a model that it loads in front, where processes that are spawned later would find it.
    sys.path = search_path[:]


@pytest.fixture
def shared_data() -> Path:
    """The folder of real images; use together with the marker `data`."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no real images: ../shared/data is absent")
    return SHARED_DATA


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that holds these tests."""
    return REPOSITORY


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a headless Chromium that asks nobody but the tests' own pages."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no browser: apt-get install chromium")
    profile = tmp_path_factory.mktemp("chromium")
    told = profile / "DevToolsActivePort"  # its port, and on a second line the path
    command = [program, *CHROMIUM, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not told.exists() or told.read_text().count("\n") < 1:
                assert process.poll() is None, f"{program} ended"
                time.sleep(0.05)
            yield "ws://127.0.0.1:{}{}".format(*told.read_text().split())
        finally:
            process.terminate()


@pytest.fixture(scope="module")  # while Playwright runs, nobody else can start an event loop in this thread
def browser(chromium: str) -> Iterator[Any]:
    """That Chromium, for the tests of one file; use together with the marker `browser`."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    playwright.expect.set_options(timeout=60_000)  # the machine may be busy
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.connect_over_cdp(chromium)
        yield opened
        opened.close()
