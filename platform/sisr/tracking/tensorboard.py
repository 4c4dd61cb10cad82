"""TensorBoard's event files: a view of a run's outbox, with its numbers and pictures, for `tensorboard --logdir runs`.

Whoever opens the outbox writes the events of all its records anew, and then those to come. So nothing is there twice
after a run was resumed, nothing is missing after a crash, and a run that has begun without the files gets them, too.
Not by tensorboardX's `SummaryWriter`: its queue, thread and process only delay what is written a few times a minute.
"""

import io
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sisr.disk.run_folder import RunFolder

FOLDER = "tensorboard"


class TensorBoard:
    """The event file of a run's folder; what can't be written becomes a warning of the run, and ends nothing."""

    def __init__(self, run_dir: Path, past: Iterable[Mapping[str, Any]]) -> None:
        """Begin a file with the records of the `past`, in place of those before."""
        from tensorboardX.event_file_writer import EventsWriter  # comes with Ray
        from tensorboardX.proto.event_pb2 import SessionLog

        self._folder, place = RunFolder(run_dir), run_dir / FOLDER
        self._file: Any = None
        with self._folder.errors_reported():
            place.mkdir(parents=True, exist_ok=True)
            before = list(place.glob("events.*"))
            # A name of its own, although another may have been begun in the same second.
            self._file = EventsWriter(str(place / "events"), f".{time.time_ns()}")
            # A TensorBoard that shows the file before forgets all of it.
            self._write(0, 0, session_log=SessionLog(status=SessionLog.START))
            for record in past:
                self.take(record)
            for path in before:
                path.unlink(missing_ok=True)

    def take(self, record: Mapping[str, Any]) -> None:
        """Write the events of one of the outbox's records, if it has any."""
        with self._folder.errors_reported():
            if record["op"] == "metrics":
                values = [{"tag": name, "simple_value": value} for name, value in record["values"].items()]
            elif record["op"] == "image":
                values = [{"tag": record["key"], "image": _picture(self._folder.path / record["path"])}]
            else:
                return
            self._write(record["step"], record["t"], summary={"value": [v for v in values if v.get("image", True)]})

    def close(self) -> None:
        """Close the file."""
        with self._folder.errors_reported():
            if self._file:
                self._file.close()

    def _write(self, step: int, ms: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        if self._file:
            self._file.write_event(Event(wall_time=ms / 1000, step=step, **content))
            self._file.flush()


def _picture(path: Path) -> dict[str, Any]:
    """Return a picture as an event holds it, encoded as it is; nothing where it is gone."""
    from PIL import Image

    with suppress(FileNotFoundError):
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            size = {"height": picture.height, "width": picture.width}
        return {**size, "colorspace": 3, "encoded_image_string": content}
    return {}
