"""What all tests share: isolation from the user's machine, and the real images where they are present."""

import os
import secrets
import shutil
import signal
import sys
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
# A shell lets its background jobs ignore Ctrl-C, and so all that they start; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
    os.environ.pop(name, None)

pytest_plugins = ["trained_runs"]

REPOSITORY = Path(__file__).resolve().parents[1]
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
def isolated(tmp_path: Path, session_cache: Path, search_path: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty folder of its own: nothing is written to the checkout or the home folder."""
    monkeypatch.setenv("SISR_CACHE", str(session_cache))
    monkeypatch.chdir(tmp_path)
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


@pytest.fixture(scope="module")  # while Playwright runs, nobody else can start an event loop in this thread
def browser() -> Iterator[Any]:
    """A headless Chromium that asks nobody but the test's own pages; use together with the marker `browser`."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no browser: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    quiet += ["--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=quiet)
        yield opened
        opened.close()
