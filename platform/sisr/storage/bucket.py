"""A place in a bucket as a store of whole objects, with conditional writes, retries, and errors in our words.

The client is boto3 and not pyarrow's: that nobody else owns a run needs `If-Match` and `If-None-Match`, which pyarrow
does not have, and two clients for one bucket would have two opinions of credentials, endpoints and time-outs.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sisr.errors import ConfigError, StorageError
from sisr.storage.address import Address

CONNECT_TIMEOUT_S = 5
SILENCE_S = 20  # without a byte of an answer
AT_ONCE = 1000  # objects that one request deletes
ATTEMPTS = 4  # of each request, with growing pauses; the mirror tries again for as long as it takes
CLOCK = {"RequestTimeTooSkewed"}
CREDENTIALS = {"ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
FORBIDDEN = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}
CONFLICT = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
MISSING = {"NoSuchKey", "404", "NotFound"}
FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "507", "InsufficientStorage"}


class ChangedError(Exception):
    """A conditional write was refused: the object is not as it was expected to be."""


@dataclass(frozen=True)
class Found:
    """An object's content."""

    content: bytes
    etag: str  # what a conditional write refers to


class Bucket:
    """The objects below an address, by their names behind it; for any thread."""

    def __init__(self, address: Address) -> None:
        """Refer to an address; nothing is asked yet."""
        self.address = address
        self._lock = threading.Lock()
        self._client: Any = None

    def get(self, name: str) -> Found | None:
        """Return an object, or None where there is none of this name.

        Raises:
            StorageError: It can't be read.
        """
        try:
            answer = self._ask("read", name, "get_object")
            with answer["Body"] as body:
                return self._within(f"read {name}", lambda: Found(body.read(), answer["ETag"]))
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Write a whole object, in the place of an older one.

        Raises:
            StorageError: It can't be written.
        """
        self._ask("write", name, "put_object", Body=content)

    def put_if(self, name: str, content: bytes, etag: str | None) -> str:
        """Write an object that must still have the ETag `etag`, or, with None, must not exist; return its new ETag.

        Raises:
            ChangedError: It is another, or exists.
            StorageError: It can't be written, or nobody knows whether it was.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            return str(self._ask("write", name, "put_object", Body=content, **condition)["ETag"])
        except FileNotFoundError:
            raise ChangedError(name) from None

    def delete_all(self, names: Sequence[str]) -> None:
        """Remove objects, as far as they are there; see `delete`."""
        for first in range(0, len(names), AT_ONCE):
            self.delete(names[first : first + AT_ONCE])

    def delete(self, names: Sequence[str]) -> None:
        """Remove up to `AT_ONCE` objects, as far as they are there.

        Raises:
            StorageError: They can't be removed.
        """
        wanted = {"Objects": [{"Key": self._key(name)} for name in names], "Quiet": True}
        answer = self.call("delete objects", "delete_objects", Delete=wanted)
        for error in answer.get("Errors", []):
            raise StorageError(f"{self.address}: can't delete {error.get('Key')}: {error.get('Message')}")

    def names(self, below: str = "") -> Iterator[str]:
        """Yield the names of the objects below a name; new ones may be missing.

        Raises:
            StorageError: They can't be listed.
        """
        for page in self._pages(below):
            yield from (item["Key"].removeprefix(self._key("")) for item in page.get("Contents", []))

    def folders(self) -> Iterator[str]:
        """Yield the names of what holds objects right below the address, in order.

        Raises:
            StorageError: They can't be listed.
        """
        for page in self._pages("", Delimiter="/"):
            for item in page.get("CommonPrefixes", []):
                yield item["Prefix"].removeprefix(self._key("")).rstrip("/")

    def call(self, doing: str, operation: str, **options: Any) -> Any:
        """Return what a request about the bucket itself, or about an object, is answered.

        Raises:
            FileNotFoundError: There is no such object.
            ChangedError: A condition was not met.
            StorageError: It was refused or not answered.
        """
        return self._within(doing, lambda: getattr(self._opened(), operation)(Bucket=self.address.bucket, **options))

    def _pages(self, below: str, **options: Any) -> Iterator[Any]:
        token: dict[str, str] = {}
        while True:
            page = self.call("list", "list_objects_v2", Prefix=self._key(below), **options, **token)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _ask(self, verb: str, name: str, operation: str, **options: Any) -> Any:
        return self.call(f"{verb} {name}", operation, Key=self._key(name), **options)

    def _key(self, name: str) -> str:
        return f"{self.address.path}/{name}".lstrip("/")

    def _within(self, doing: str, request: Any) -> Any:
        """Return what a request returns, its errors in our words."""
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            return request()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in MISSING:
                raise FileNotFoundError(doing) from error
            if code in CONFLICT:
                raise ChangedError(doing) from error
            if code in CREDENTIALS:
                self._client = None  # the next request looks for credentials again: somebody may renew them
            problem, remedy = self._reason(code, error)
            raise StorageError(f"{self.address}: can't {doing}: {problem}", remedy) from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            if isinstance(error, FileNotFoundError | ConfigError):
                raise
            problem, remedy = _short(error)
            raise StorageError(f"{self.address}: can't {doing}: {problem}", remedy) from error

    def _reason(self, code: str, error: Exception) -> tuple[str, str]:
        """Return what is wrong, and what would be right."""
        if code == "NoSuchBucket":
            return f"there is no bucket {self.address.bucket}", "create it, or correct the address"
        if code in FORBIDDEN:
            return f"access denied ({code})", "allow s3:GetObject, PutObject, DeleteObject and ListBucket"
        if code in CREDENTIALS:
            return f"the credentials are not accepted ({code})", "renew them"
        if code in CLOCK:
            return "this machine's clock is too far from the server's", "set it"
        if code in FULL:
            return f"the bucket is full ({code})", "free space, or raise its quota"
        return _short(error)

    def _opened(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _connect(self.address)
            return self._client


def _connect(address: Address) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise ConfigError(f"{address} needs boto3: pip install 'sisr[cluster]'") from error
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=SILENCE_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=8,
        s3={"addressing_style": "path"} if address.endpoint else None,
    )
    # A session of its own: credentials are looked for anew, and threads share none.
    session = boto3.session.Session()
    return session.client("s3", endpoint_url=address.endpoint, region_name=address.region, config=config)


def _short(error: Exception) -> tuple[str, str]:
    lines = str(error).splitlines() or [type(error).__name__]
    if type(error).__name__ == "NoCredentialsError":
        return "there are no credentials", "AWS_PROFILE, AWS_ACCESS_KEY_ID or the machine's role give them"
    return lines[0], ""
