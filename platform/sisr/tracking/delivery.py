"""Records of an outbox, sent to MLflow in order. Sending one again changes nothing, so a crash costs a repetition.

Files go another way than numbers, to the artifact store. Where that takes none, they wait, and the records behind them
pass. What the server refuses for good, or again and again breaks over, is set aside in a file.
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric
from PIL import Image, UnidentifiedImageError

from sisr.errors import CheckpointError, DataError, TrackingError
from sisr.tracking import address, mlflow_run, outbox, progress, registry, store, upload
from sisr.tracking.address import Address
from sisr.tracking.failures import (
    FAILURES,
    FilesWaitError,
    OfflineError,
    RecordRefusedError,
    is_refusal,
    status_of,
    why,
)
from sisr.tracking.mlflow_run import Record, batches, groups
from sisr.tracking.redact import redact_text

T = TypeVar("T")

REFUSED = "outbox.refused.jsonl"  # records that are set aside, each with the reason
WITH_FILES = {"image", "artifact", "model"}
TRIES = 5  # of numbers or settings over which the server breaks, although it takes other writes
THUMBNAIL_SIDE = 256  # px, as MLflow's own log_image makes it

_log = logging.getLogger(__name__)


class Delivery:
    """The way of one run's records to one MLflow run, which is found or created with the first of them.

    Args:
        run_dir: The run's folder.
        place: Where it is recorded.
        parent_id: See `mlflow_run.find_or_create`.
        notify: Gets a line when records are set aside.
    """

    def __init__(
        self, run_dir: Path, place: Address, parent_id: str | None = None, notify: Callable[[str], None] = _log.warning
    ):
        self.run_dir, self.place, self._parent_id, self._notify = run_dir, place, parent_id, notify
        self.progress = progress.read(run_dir, place.run_id)
        self._client: MlflowClient | None = None

    def deliver(self, attempts: int = 1) -> list[str]:
        """Send everything that the outbox holds now, but files that the artifact store does not take.

        Args:
            attempts: So many files may fail; after that, or with 0, files wait without being tried.

        Returns:
            Why files failed; `progress.waiting` says which ones wait.

        Raises:
            OfflineError: Not everything else could be sent; what was is remembered.
            TrackingError: The MLflow run was deleted.
        """
        path = self.run_dir / outbox.FILE
        if not path.is_file() or (path.stat().st_size <= self.progress.offset and not self.progress.waiting):
            return []
        self._find_run(path)
        failed: list[str] = []
        for start in self.progress.waiting[:] if attempts else ():
            if len(failed) < attempts:
                self._send_waiting(next(outbox.records(path, start), (None, 0))[0], start, failed)
        for group, end in groups(path, self.progress.offset):
            refused, waiting = 0, self.progress.waiting
            if group and group[0]["op"] in WITH_FILES and (waiting or not attempts):
                waiting = (*waiting, self.progress.offset)  # behind the others, so that the order stays
            else:
                try:
                    refused = self._send_group(group)
                except FilesWaitError as error:
                    failed.append(str(error))
                    waiting = (*waiting, self.progress.offset)
            self._advance(offset=end, refused=self.progress.refused + refused, waiting=waiting, tries=0)
        return failed

    def log_system(self, step: int, timestamp: int, values: dict[str, float]) -> None:
        """Send system metrics; nothing is remembered about them."""
        if self.place.run_id is not None:
            metrics = [Metric(name, value, timestamp, step) for name, value in values.items()]
            self._attempt(lambda: self._connect().log_batch(self.place.run_id, metrics=metrics))

    def close_lost_run(self) -> None:
        """Mark a run killed whose process ended without a last status."""
        if self.place.run_id is not None and outbox.last_status(self.run_dir) == "RUNNING":
            self._attempt(lambda: self._connect().set_terminated(self.place.run_id, "KILLED"))

    def _find_run(self, path: Path) -> None:
        run_id = self._attempt(lambda: mlflow_run.find_or_create(self._connect(), self.place, path, self._parent_id))
        if run_id != self.place.run_id:
            self.place = replace(self.place, run_id=run_id)
            self.progress = progress.read(self.run_dir, run_id)
            address.write(self.run_dir, self.place)
        self._check_artifacts(run_id)

    def _check_artifacts(self, run_id: str) -> None:
        """Make sure that the embedded store, which may have come with a folder, sends no files elsewhere."""
        if self.place.tracking_uri != address.default_uri(address.runs_of(self.run_dir)):
            return
        here = address.artifact_location(self.place.tracking_uri)
        uri = self._attempt(lambda: self._connect().get_run(run_id)).info.artifact_uri
        if ".." in uri or not uri.startswith(f"{here}/"):
            raise TrackingError(
                f"experiment '{self.place.experiment}' of {self.place.tracking_uri} keeps the run's files at {uri}, "
                f"not in {here}: use another --experiment, or another --tracking-uri"
            )

    def _connect(self) -> MlflowClient:
        if self._client is None:
            self._client = store.client(self.place.tracking_uri)
        return self._client

    def _advance(self, **changes: Any) -> None:
        self.progress = replace(self.progress, run_id=self.place.run_id, **changes)
        progress.write(self.run_dir, self.progress)

    def _send_waiting(self, record: Record | None, start: int, failed: list[str]) -> None:
        """Try a record again whose file waits; one that fails goes behind the others."""
        others = tuple(other for other in self.progress.waiting if other != start)
        try:
            refused = self._send_group([record] if record else [])
            self._advance(refused=self.progress.refused + refused, waiting=others)
        except FilesWaitError as error:
            failed.append(str(error))
            self._advance(waiting=(*others, start))

    def _send_group(self, group: list[Record]) -> int:
        """Send records as one request where possible; return how many the server refuses for good."""
        if not group:
            return 0
        try:
            self._attempt(lambda: self._send(group), group[0]["op"])
            return 0
        except RecordRefusedError as error:
            if len(group) == 1:
                self._set_aside(group[0], str(error))
                return 1
        return sum(self._send_group([record]) for record in group)

    def _set_aside(self, record: Record, reason: str) -> None:
        file = self.run_dir / REFUSED
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW  # the folder may be somebody else's
        with suppress(OSError), os.fdopen(os.open(file, flags, 0o644), "w") as lines:
            lines.write(json.dumps({"record": record, "reason": reason}) + "\n")
        message = f"record {record['n']} ({record['op']}) can't be delivered and is set aside in {file}: {reason}"
        _log.warning("%s", message)
        if self.progress.refused == 0:  # the first; the file has the others
            self._notify(message)

    def _attempt(self, action: Callable[[], T], op: str = "") -> T:
        """Do `action`, and distinguish a server that can't be reached from a record (`op`) that it does not accept."""
        try:
            return action()
        except (FileNotFoundError, UnidentifiedImageError, CheckpointError, DataError) as error:
            raise RecordRefusedError(redact_text(str(error))) from error
        except FAILURES as error:
            raise self._judge(error, op)(why(error)) from error
        except TrackingError:
            raise
        except Exception as error:  # our mistake or a library's: it must not hold up the records behind it
            _log.exception("a record can't be delivered")
            raise RecordRefusedError(redact_text(repr(error))) from error

    def _judge(self, error: Exception, op: str) -> type[OfflineError]:
        """Return what an error means: only if the server knows our run, it is about the record."""
        try:
            if self.place.run_id is None:
                return OfflineError
            mlflow_run.check(self._connect(), self.place.run_id)
            if is_refusal(error):
                return RecordRefusedError
            if op in WITH_FILES:
                return FilesWaitError
            if op in ("metrics", "params") and status_of(error) == 500:
                self._advance(tries=self.progress.tries + 1)
                if self.progress.tries > TRIES:
                    mlflow_run.write_again(self._connect(), self.place.run_id)
                    return RecordRefusedError
        except FAILURES:
            pass
        return OfflineError

    def _send(self, group: list[Record]) -> None:
        run_id, first = self.place.run_id, group[0]
        assert run_id is not None
        match first["op"]:
            case "image":
                with self._picture(first) as folder:
                    self._connect().log_artifacts(run_id, str(folder), "images")
                self._connect().set_tag(run_id, "mlflow.loggedImages", True)
            case "artifact":
                with upload.staged(self.run_dir, first["path"]) as folder:
                    self._connect().log_artifacts(run_id, str(folder), upload.target(first["to"]))
            case "model":
                key = mlflow_run.record_uuid(run_id, first)
                registry.log_generator(self._connect(), run_id, upload.inside(self.run_dir, first["path"]), key)
            case "status" if first["status"] == "RUNNING":
                self._connect().update_run(run_id, status="RUNNING")
            case "status":
                began = self._connect().get_run(run_id).info.start_time  # later, where the clock was set back since
                self._connect().set_terminated(run_id, first["status"], end_time=max(first["t"], began))
            case "metrics" | "params" | "tags":
                for batch in batches(group):
                    self._connect().log_batch(run_id, **batch)
            case _:
                pass  # "open", and what later versions may add

    @contextmanager
    def _picture(self, record: Record) -> Iterator[Path]:
        """Give a folder with a picture, named so that MLflow's page finds it (see `MlflowClient.log_image`).

        The last part of the name is the record's own, instead of a random one, so that sending it again overwrites it.
        """
        key, uuid = record["key"].replace("/", "~"), mlflow_run.record_uuid(self.place.run_id, record)
        name = f"{key}+step+{record['step']}+timestamp+{record['t']}+{uuid}"
        source = upload.inside(self.run_dir, record["path"])
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            with Image.open(source) as image:
                if image.format == "PNG":
                    shutil.copyfile(source, folder / f"{name}.png")
                else:
                    image.save(folder / f"{name}.png")
                image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
                image.save(folder / f"{name}+compressed.webp")
            yield folder
