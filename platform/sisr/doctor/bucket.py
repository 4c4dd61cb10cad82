"""Whether runs can be kept at an address: permissions, conditional writes, speed, versions, and where the bucket is."""

import os
import time
import uuid

from sisr.doctor import Diagnosis
from sisr.errors import StorageError
from sisr.storage.address import parse
from sisr.storage.bucket import Bucket, ChangedError

SAMPLE = 8 << 20  # bytes that are written and read
SLOW = 2e6  # bytes a second
CONDITIONS = (
    "two processes could own one run: use a server that knows If-None-Match and If-Match of PUT (AWS, MinIO, ...)"
)


def holds_images(spec: str) -> bool:
    """Return whether packed images were published at an address."""
    from sisr.data.sources.published import MANIFEST

    try:
        return Bucket(parse(spec)).get(MANIFEST) is not None
    except StorageError:
        return False


def examine(spec: str) -> list[Diagnosis]:
    """Return what was found at an address; what is written there meanwhile is removed again.

    Raises:
        ConfigError: It is no address for runs.
    """
    bucket = Bucket(parse(spec))
    name = f".doctor-{uuid.uuid4().hex}"
    found = []
    try:
        found += [_place(bucket), *_access(bucket, name), _conditions(bucket, f"{name}.lease"), _versions(bucket)]
    except StorageError as error:
        return [*found, Diagnosis("error", "storage", error.problem, error.remedy or "see there, and try again")]
    return found


def _place(bucket: Bucket) -> Diagnosis:
    """Return in which region the bucket is; requests for another one are redirected each time."""
    try:
        answer = bucket.call("find the bucket", "head_bucket")
    except FileNotFoundError:
        found = f"{bucket.address}: there is no bucket {bucket.address.bucket}"
        raise StorageError(found, "create it, where you train, or correct the address") from None
    there = answer.get("BucketRegion") or answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    return Diagnosis("ok", "bucket", f"{bucket.address.bucket}" + (f" in {there}: train there, too" if there else ""))


def _access(bucket: Bucket, name: str) -> list[Diagnosis]:
    """Write, read, list and delete an object."""
    content = os.urandom(SAMPLE)
    began = time.monotonic()
    bucket.put(name, content)
    wrote = time.monotonic()
    back = bucket.get(name)
    read = time.monotonic()
    listed = name in [*bucket.names(name)]
    bucket.delete([name])
    if back is None or back.content != content or not listed or bucket.get(name) is not None:
        found = "what was written does not come back at once, is not listed, or is there after it was deleted"
        return [Diagnosis("error", "storage", found, "use one that is consistent")]
    up, down = SAMPLE / (wrote - began), SAMPLE / (read - wrote)
    rates = f"{up / 1e6:,.1f} MB/s up, {down / 1e6:,.1f} MB/s down"
    remedy = "checkpoints wait on the disk: raise evaluate_every, or train nearer to the bucket" if up < SLOW else ""
    return [
        Diagnosis("ok", "permissions", "objects can be written, read, listed and deleted"),
        Diagnosis("warning" if up < SLOW else "ok", "speed", rates, remedy),
    ]


def _conditions(bucket: Bucket, name: str) -> Diagnosis:
    """Return whether conditional writes are refused as they must be: nothing else keeps two owners apart."""
    ignored = []
    try:
        etag = bucket.put_if(name, b"1", None)
        for condition, given in (("If-None-Match: *", None), ("If-Match", f'"{"0" * 32}"')):
            try:
                bucket.put_if(name, b"2", given)
                ignored.append(condition)
            except ChangedError:
                continue
        if not ignored:
            bucket.put_if(name, b"3", etag)
    finally:
        bucket.delete([name])
    if ignored:
        return Diagnosis("error", "conditional writes", f"{' and '.join(ignored)}: ignored", CONDITIONS)
    return Diagnosis("ok", "conditional writes", "are refused where they must be")


def _versions(bucket: Bucket) -> Diagnosis:
    """Return whether the bucket keeps what is deleted."""
    try:
        status = bucket.call("ask for versioning", "get_bucket_versioning").get("Status", "")
    except StorageError as error:
        return Diagnosis("ok", "versions", f"not known: {error}")
    if status == "Enabled":
        found = "are kept: what a run deletes and replaces goes on costing"
        return Diagnosis("warning", "versions", found, "add a lifecycle rule that expires noncurrent versions")
    return Diagnosis("ok", "versions", "are not kept")
