"""What the object says by which a run in object storage is owned; see `sisr.storage.lease`."""

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from sisr.errors import StorageError
from sisr.storage.bucket import Bucket

NAME = "lease.json"
FORMAT = 1
BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Claim:
    """What the object says."""

    generation: int
    owner: str  # in words
    nonce: str  # of the owner, which passes it on to its own workers
    place: str  # see `place_of`
    ttl_s: float
    beat: int = 0
    released: bool = False
    writer: str = ""  # of the owner's processes the one that has counted the generation up last
    format: int = FORMAT

    def encoded(self) -> bytes:
        """Return the object's content."""
        return json.dumps(asdict(self), sort_keys=True).encode()


def read(bucket: Bucket) -> tuple[Claim, str] | None:
    """Return who owns a run, and the ETag of that; None where nobody ever did.

    Raises:
        StorageError: It can't be read, or is damaged.
    """
    found = bucket.get(NAME)
    if found is None:
        return None
    try:
        content = dict(json.loads(found.content))
        if content.get("format") != FORMAT:
            raise StorageError(f"{bucket.address}/{NAME} has format {content.get('format')!r}: use a newer sisr")
        return Claim(**content), found.etag
    except (ValueError, TypeError) as error:
        raise StorageError(
            f"{bucket.address}/{NAME} is damaged ({error}): delete it once nobody uses the run"
        ) from error


def place_of(identity: str) -> str:
    """Return what a working folder is called in a lease: its identity, on this machine as it was started last.

    Its lock is freed by the system, so whoever holds it knows that an earlier owner from the same place is gone. A copy
    of the folder, on another machine or in one that was cloned, is another place.
    """
    boot = BOOT.read_text().strip() if BOOT.is_file() else ""
    return f"{identity}@{boot}" if boot else f"{identity}@{uuid.uuid4().hex}"
