"""What MLflow is to get of a run: a file beside the run, written first and delivered later.

The trainer appends here; `sisr.tracking.courier` reads. Nothing here speaks to a server, so no server can slow or stop
training. Each line holds `n` (sequence number), `t` (milliseconds since 1970), `op` and the operation's fields.
"""

import contextlib
import json
import math
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sisr.disk.journal import Journal, rows
from sisr.disk.sweep_folder import run_name
from sisr.errors import ConfigError
from sisr.tracking.redact import redact

if TYPE_CHECKING:
    from sisr.tracking.tensorboard import TensorBoard

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

FILE = "outbox.jsonl"
# Tags. What a run measured at its end is none of its metrics: MLflow draws a chart of each, also where it is one value.
FINAL = "sisr.final"  # by metric
ENDED = "sisr.ended"  # how and when, in words

# MLflow's rules for names; image keys do without the "+" that separates the parts of an image's file name.
_NAME = re.compile(r"[A-Za-z0-9_\-. :/]{1,250}")
_RESUMED = re.compile(r"resume\.\d+\.(.+)")  # the tag of a setting that a later attempt has changed
_KEY = re.compile(r"[A-Za-z0-9_\-./ ]{1,100}")

# The fields of each operation's record, besides those that every record has.
EVERY = {"n": int, "t": int, "op": str}
FIELDS: dict[str, dict[str, type]] = {
    "open": {"run_uid": str, "run_name": str},
    "metrics": {"step": int, "values": dict},
    "params": {"values": dict},
    "tags": {"values": dict},
    "image": {"step": int, "key": str, "path": str},
    "artifact": {"path": str, "to": str},
    "model": {"path": str},
    "status": {"status": str},
}


class Outbox:
    """The writing end of a run's outbox, for any thread of one process at a time.

    Opening the outbox of an earlier attempt goes on behind what was recorded. What a resumed run repeats, because it
    went back to its last checkpoint, is not recorded twice.
    """

    def __init__(self, run_dir: Path, *, tensorboard: bool = False):
        """Open or create the outbox of the run in `run_dir`; `tensorboard` keeps event files beside it, too.

        Raises:
            RunLockedError: Another process writes this run's outbox.
            DiskError: The file can't be opened.
        """
        self.run_dir = Path(run_dir)
        self._journal = Journal(self.run_dir / FILE)
        self._lock = threading.RLock()
        self._recorded: set[tuple[Any, ...]] | None = None  # by earlier attempts, from the first step logged here on
        self._params: dict[str, str] = {}  # as MLflow has them
        self._settings: dict[str, str] = {}  # the same, with what later attempts have changed
        self._next, self._latest_ms = 0, 0
        self.attempt = 0  # how often the run was started before
        try:
            run_uid = self._read_past() or uuid.uuid4().hex
            self._board = self._open_board() if tensorboard else None
            self._append("open", run_uid=run_uid, run_name=run_name(self.run_dir))
        except BaseException:
            self._journal.close()  # else nobody could write it any more
            raise

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers of one step. One that isn't finite becomes `NAME_finite` = 0 and the tag `sisr.not_finite`."""
        finite, broken = {}, []
        for name, value in values.items():
            if math.isfinite(number := float(value)):
                finite[_checked(name, _NAME)] = number
            else:
                finite[_checked(f"{name}_finite", _NAME)] = 0.0
                broken.append(f"{name} is {number}")
        with self._lock:
            fresh = {name: v for name, v in finite.items() if self._is_new(step, _identity(step, name, v))}
            if fresh:
                self._append("metrics", step=step, values=fresh)
            if fresh and broken:
                self.tags({"sisr.not_finite": f"step {step}: {', '.join(broken)}"})

    def image(self, step: int, key: str, relative_path: str | Path) -> None:
        """Record that the picture `relative_path` (inside the run's folder) shows `key` at `step`."""
        path = self._inside(relative_path)
        with self._lock:
            if self._is_new(step, ("image", step, _checked(key, _KEY))):
                self._append("image", step=step, key=key, path=path)

    def params(self, values: Mapping[str, Any]) -> None:
        """Record settings, before the attempt's `status("RUNNING")`.

        MLflow changes no setting: one that differs from the attempt before becomes the tag `resume.ATTEMPT.NAME`.
        """
        clean = {_checked(name, _NAME): _text(value) for name, value in redact(values).items()}
        with self._lock:
            fresh = {k: v for k, v in clean.items() if k not in self._params}
            changed = {f"resume.{self.attempt}.{k}": v for k, v in clean.items() if self._settings.get(k, v) != v}
            self._params |= fresh
            self._settings |= clean
            if fresh:
                self._append("params", values=fresh)
            if changed:
                self.tags(changed)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Record facts about the run that may change; the last value counts."""
        self._append("tags", values={_checked(k, _NAME): _text(v) for k, v in redact(values).items()})

    def artifact(self, relative_path: str | Path, artifact_path: str = "") -> None:
        """Record that the file or folder `relative_path` belongs in the folder `artifact_path` of the artifacts."""
        self._append("artifact", path=self._inside(relative_path), to=artifact_path)

    def model(self, relative_folder: str | Path) -> None:
        """Record that `relative_folder` (generator.safetensors, config.json) holds the run's model."""
        self._append("model", path=self._inside(relative_folder))

    def status(self, status: Status) -> None:
        """Record how the run stands."""
        self._append("status", status=status)

    def flush(self) -> None:
        """Return once everything recorded so far is on the disk.

        Raises:
            DiskError: It can't be written; what is missing stays in memory and is tried again with the next record.
        """
        self._journal.flush()

    def close(self) -> None:
        """Flush, and let another process write. Closing twice does nothing."""
        self._journal.close()
        if self._board:
            self._board.close()

    def __enter__(self) -> "Outbox":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except OSError:
            if kind is None:  # else the error on its way counts more than what can't be recorded of it
                raise

    def _append(self, op: str, **fields: Any) -> None:
        with self._lock:
            # A clock that is set back must not let a run end before it began.
            self._latest_ms = max(self._latest_ms, time.time_ns() // 1_000_000)
            record = {"n": self._next, "t": self._latest_ms, "op": op, **fields}
            self._journal.append(record)
            self._next += 1
            if self._board:
                self._board.take(record)

    def _open_board(self) -> "TensorBoard":
        from sisr.tracking.tensorboard import TensorBoard

        return TensorBoard(self.run_dir, (row for row, _ in records(self._journal.path) if row))

    def _read_past(self) -> str | None:
        run_uid = None
        for row in (row for row, _ in records(self._journal.path) if row):
            self._next, self._latest_ms = row["n"] + 1, max(self._latest_ms, row.get("t", 0))
            if row["op"] == "open":
                run_uid = row["run_uid"]
            elif row["op"] == "status":
                self.attempt += row["status"] == "RUNNING"
            elif row["op"] == "params":
                self._params |= row["values"]
                self._settings |= row["values"]
            elif row["op"] == "tags":
                changed = (_RESUMED.fullmatch(name) for name in row["values"])
                self._settings |= {found[1]: row["values"][found[0]] for found in changed if found}
        return run_uid

    def _is_new(self, step: int, what: tuple[Any, ...]) -> bool:
        if self._recorded is None:
            self._recorded = _recorded_since(self._journal.path, step)
        return what not in self._recorded

    def _inside(self, relative_path: str | Path) -> str:
        path = Path(relative_path)
        if path.is_absolute() or not (self.run_dir / path).resolve().is_relative_to(self.run_dir.resolve()):
            raise ConfigError(f"'{relative_path}' is not a path inside the run's folder {self.run_dir}")
        return path.as_posix()


def records(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """Yield the records of an outbox from a byte offset on, each with the offset behind it.

    A line that is no whole record, torn by a crash or written by somebody else, is yielded as `None`.
    """
    for row, end in rows(path, offset):
        fields = EVERY | FIELDS.get(str(row and row.get("op")), {})
        whole = row is not None and all(isinstance(row.get(name), kind) for name, kind in fields.items())
        yield row if whole else None, end


def last_status(run_dir: Path) -> str | None:
    """Return how the run stands by its last status record; `None` if there is none."""
    with (run_dir / FILE).open("rb") as file:
        lines = [line for line in file if b'"op":"status"' in line]  # few of many: reading them all as JSON is slow
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # torn by a crash
            return str(json.loads(line)["status"])
    return None


def _identity(step: int, name: str, value: float) -> tuple[Any, ...]:
    """Return what makes a number the one that was recorded before; a speed is never the same twice."""
    return ("metrics", step, name, None if name.startswith("speed/") else value)


def _recorded_since(path: Path, step: int) -> set[tuple[Any, ...]]:
    found: set[tuple[Any, ...]] = set()
    for row, _ in records(path):
        if row is None or row.get("step", -1) < step:
            continue
        if row["op"] == "metrics":
            found |= {_identity(row["step"], name, value) for name, value in row["values"].items()}
        elif row["op"] == "image":
            found.add(("image", row["step"], row["key"]))
    return found


def _checked(name: str, form: re.Pattern[str]) -> str:
    if not form.fullmatch(name):
        raise ConfigError(f"'{name}' can't name a metric, setting or image: use letters, digits, blanks and _ - . : /")
    return name


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
