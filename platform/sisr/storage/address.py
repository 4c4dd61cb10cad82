"""Addresses of runs in object storage, and the folder of this machine in which the runs of an address are worked on."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from sisr.disk import atomic, cache
from sisr.errors import ConfigError

MARK = ".address"  # in a working folder: the address whose runs it holds
OPTIONS = {"endpoint_override", "scheme", "region"}  # behind `?`, named as in pyarrow's addresses
FORM = "s3://BUCKET/PATH"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")
_SQUEEZED = re.compile(r"([a-z][a-z0-9+.-]*):/+(.*)", re.DOTALL)  # what `Path` makes of an address


def is_address(spec: str) -> bool:
    """Return whether something is named by an address such as s3://bucket/runs."""
    return _ADDRESS.match(spec) is not None


@dataclass(frozen=True)
class Address:
    """A place in a bucket."""

    bucket: str
    path: str  # below the bucket, without slashes at its ends
    endpoint: str | None = None  # URL of a server other than AWS's
    region: str | None = None

    def __str__(self) -> str:
        """Return the address as one writes it, without its options."""
        return f"s3://{self.bucket}/{self.path}".rstrip("/")

    def __truediv__(self, name: str) -> "Address":
        return replace(self, path=f"{self.path}/{name}".strip("/"))

    @property
    def parent(self) -> "Address":
        """The address without its last name."""
        return replace(self, path=self.path.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last name."""
        return self.path.rpartition("/")[2]

    @property
    def written(self) -> str:
        """The address with its options."""
        options = [f"region={self.region}"] if self.region else []
        if self.endpoint:
            scheme, _, host = self.endpoint.partition("://")
            options = [f"endpoint_override={host}", f"scheme={scheme}", *options]
        return f"{self}?{'&'.join(options)}" if options else str(self)


def parse(spec: str) -> Address:
    """Return an address as it is written.

    Raises:
        ConfigError: It is none, or of a storage in which runs can't be kept.
    """
    parts = urlsplit(spec)
    if parts.scheme in ("gs", "gcs", "az", "abfs", "abfss"):
        raise ConfigError(
            f"{spec}: runs can be kept in {FORM} only: that nobody else executes a run rests on S3's conditional writes"
        )
    options = dict(parse_qsl(parts.query))
    if parts.scheme != "s3" or not parts.netloc or options.keys() - OPTIONS:
        known = ", ".join(sorted(OPTIONS))
        raise ConfigError(f"{spec}: an address of runs is {FORM}, behind a ? only {known}")
    host = options.get("endpoint_override")
    endpoint = f"{options.get('scheme', 'https')}://{host}" if host else None
    return Address(parts.netloc, unquote(parts.path).strip("/"), endpoint, options.get("region"))


def runs_folder(runs: str | Path) -> Path:
    """Return the folder that `--runs` names: a path as it is, of an address the folder in which its runs are worked on.

    Raises:
        ConfigError: It is an address that can't be used.
        DiskError: The folder can't be made.
    """
    squeezed = _SQUEEZED.fullmatch(str(runs))
    if squeezed is None:
        return Path(runs)
    if squeezed[1] == "file":
        return Path("/", unquote(squeezed[2]))
    address = parse(f"{squeezed[1]}://{squeezed[2]}")
    folder = place_here(address)
    if of_folder(folder) != address:
        atomic.write_text(folder / MARK, address.written + "\n")
    return folder


def place_here(address: Address, kind: str = "runs") -> Path:
    """Return the folder of this machine that belongs to an address, among others of a kind."""
    server = quote(address.endpoint.partition("://")[2], safe="") if address.endpoint else "aws"
    return cache.folder().absolute() / kind / server / address.bucket / address.path


def of_run(folder: Path) -> Address | None:
    """Return the address of a run or sweep that is worked on in a folder; None for one that is kept there."""
    place = of_folder(folder.parent)
    return place / folder.name if place else None


def of_folder(runs: Path) -> Address | None:
    """Return the address whose runs a folder holds; None for a folder that only is what it is."""
    try:
        return parse((runs / MARK).read_text().strip())
    except (OSError, UnicodeDecodeError):
        return None
