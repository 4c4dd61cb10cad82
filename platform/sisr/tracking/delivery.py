"""Records of an outbox, sent to MLflow in order. Sending one again changes nothing, so a crash costs a repetition."""

import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import requests
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from PIL import Image, UnidentifiedImageError
from sqlalchemy.exc import SQLAlchemyError

from sisr.errors import CheckpointError, TrackingError
from sisr.tracking import address, mlflow_run, outbox, progress, registry
from sisr.tracking.address import Address
from sisr.tracking.batching import Row, batches, groups
from sisr.tracking.redact import redact_text

T = TypeVar("T")

THUMBNAIL_SIDE = 256  # px, as MLflow's own log_image makes it

FAILURES = (MlflowException, requests.RequestException, SQLAlchemyError, OSError)

_log = logging.getLogger(__name__)


class OfflineError(Exception):
    """The server can't be reached, or not by us; later is worth a try."""


class _RefusedError(OfflineError):
    """The server will never accept this record."""


class Delivery:
    """The way of one run's records to one MLflow run, which is found or created with the first of them."""

    def __init__(self, run_dir: Path, place: Address, parent_id: str | None = None):
        """Prepare; nothing is sent yet. `parent_id`: see `mlflow_run.find_or_create`."""
        self.run_dir, self.place, self._parent_id = run_dir, place, parent_id
        self.progress = progress.read(run_dir, place.run_id)
        self._client: MlflowClient | None = None

    def deliver(self) -> None:
        """Send everything that the outbox holds now.

        Raises:
            OfflineError: Not everything could be sent; what was is remembered.
            TrackingError: The MLflow run was deleted.
        """
        path = self.run_dir / outbox.FILE
        if not path.is_file() or path.stat().st_size <= self.progress.offset:
            return
        self._reach_run(path)
        for group, end in groups(path, self.progress.offset):
            refused = self._send_group(group)
            self.progress = progress.Progress(self.place.run_id, end, self.progress.refused + refused)
            progress.write(self.run_dir, self.progress)

    def log_system(self, step: int, timestamp: int, values: dict[str, float]) -> None:
        """Send system metrics; nothing is remembered about them."""
        if self.place.run_id is not None:
            metrics = [Metric(name, value, timestamp, step) for name, value in values.items()]
            self._attempt(lambda: self._connect().log_batch(self.place.run_id, metrics=metrics))

    def close_lost_run(self) -> None:
        """Mark a run killed whose process has vanished without a word."""
        if self.place.run_id is not None and outbox.last_status(self.run_dir) == "RUNNING":
            self._attempt(lambda: self._connect().set_terminated(self.place.run_id, "KILLED"))

    def _reach_run(self, path: Path) -> None:
        run_id = self._attempt(lambda: mlflow_run.find_or_create(self._connect(), self.place, path, self._parent_id))
        if run_id != self.place.run_id:
            self.place = replace(self.place, run_id=run_id)
            self.progress = progress.read(self.run_dir, run_id)
            address.write(self.run_dir, self.place)

    def _connect(self) -> MlflowClient:
        if self._client is None:
            self._client = MlflowClient(self.place.tracking_uri)
        return self._client

    def _send_group(self, group: list[Row]) -> int:
        """Send records as one request where possible; return how many the server refuses for good."""
        if not group:
            return 0
        try:
            self._attempt(lambda: self._send(group))
            return 0
        except _RefusedError as error:
            if len(group) == 1:
                _log.warning("record %s (%s) can't be delivered: %s", group[0]["n"], group[0]["op"], error)
                return 1
        return sum(self._send_group([row]) for row in group)

    def _attempt(self, action: Callable[[], T]) -> T:
        """Do `action`, and tell a server that can't be reached from a record that it does not accept."""
        try:
            return action()
        except (FileNotFoundError, UnidentifiedImageError, CheckpointError) as error:
            raise _RefusedError(redact_text(str(error))) from error
        except FAILURES as error:
            reason = why(error)
            if _is_refusal(error) and self._run_answers():
                raise _RefusedError(reason) from error
            raise OfflineError(reason) from error
        except TrackingError:
            raise
        except Exception as error:  # our mistake or a library's: it must not hold up the records behind it
            _log.exception("a record can't be delivered")
            raise _RefusedError(redact_text(repr(error))) from error

    def _run_answers(self) -> bool:
        """Whether the server knows our run: only then a refusal is about the record, not about where we knocked."""
        if self.place.run_id is None:
            return False
        try:
            mlflow_run.check(self._connect(), self.place.run_id)
            return True
        except FAILURES:
            return False

    def _send(self, group: list[Row]) -> None:
        assert self.place.run_id is not None
        first = group[0]
        match first["op"]:
            case "image":
                self._send_image(first)
            case "artifact":
                self._send_files(self.run_dir / first["path"], first["to"])
            case "model":
                key = mlflow_run.record_uuid(self.place.run_id, first)
                registry.log_generator(self._connect(), self.place.run_id, self.run_dir / first["path"], key)
            case "status":
                self._send_status(first)
            case "metrics" | "params" | "tags":
                for batch in batches(group):
                    self._connect().log_batch(self.place.run_id, **batch)
            case _:
                pass  # "open", and what later versions may add

    def _send_status(self, row: Row) -> None:
        if row["status"] == "RUNNING":
            self._connect().update_run(self.place.run_id, status="RUNNING")
        else:
            self._connect().set_terminated(self.place.run_id, row["status"], end_time=row["t"])

    def _send_files(self, path: Path, to: str) -> None:
        """Send a file into the folder `to`, or what a folder holds."""
        if path.is_dir():
            self._connect().log_artifacts(self.place.run_id, str(path), to or None)
        elif path.is_file():
            self._connect().log_artifact(self.place.run_id, str(path), to or None)
        else:
            raise FileNotFoundError(f"{path} is gone")

    def _send_image(self, row: Row) -> None:
        """Send a picture under the names by which MLflow's page finds its image grid (see `MlflowClient.log_image`).

        The last part of the name is the record's own, instead of a random one, so that sending it again overwrites it.
        """
        key = row["key"].replace("/", "~")
        name = f"{key}+step+{row['step']}+timestamp+{row['t']}+{mlflow_run.record_uuid(self.place.run_id, row)}"
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / f"{name}.png"
            with Image.open(self.run_dir / row["path"]) as image:
                if image.format == "PNG":
                    shutil.copyfile(self.run_dir / row["path"], picture)
                else:
                    image.save(picture)
                image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
                image.save(Path(folder) / f"{name}+compressed.webp")
            self._connect().log_artifacts(self.place.run_id, folder, "images")
        self._connect().set_tag(self.place.run_id, "mlflow.loggedImages", True)


def why(error: Exception) -> str:
    """Return in a few words, without secrets, why a server did not do what it was asked for.

    What HTTP libraries say of a server that is away names the address three times before it names the reason.
    """
    text = str(error)
    if "Max retries exceeded" in text or "HTTPConnectionPool" in text:
        for form in (
            r"\[Errno -?\d+\] ([^'\")]+)",
            r"((?:Read|connect\w*|Connection to \S+) timed out)",
            r"Caused by (.+)",
        ):
            if found := re.search(form, text):
                return redact_text(found[1].strip()[:200])
    return redact_text(text.strip().splitlines()[0] if text.strip() else repr(error))[:300]


def _is_refusal(error: Exception) -> bool:
    status: int | None = None
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    elif isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
    return status is not None and 400 <= status < 500 and status not in (401, 403, 407, 408, 429)
