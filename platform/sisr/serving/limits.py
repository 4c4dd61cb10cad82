"""What one request may cost, and the answer to one that costs more."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from sisr.data.formats import RefusedError
from sisr.errors import DataError

# Of what `sisr.data.images` refuses; anything else that a file holds is 422: understood, but not usable.
STATUS_BY_KIND = {
    "not an image": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "unsupported format": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "too many pixels": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server takes on, for each process that computes."""

    max_bytes: int = 10 * 2**20  # of a request's body
    max_pixels: int = 4_000_000  # of the picture that is sent
    queue: int = 64  # requests that wait with their whole body, besides those being computed
    receiving: int = 256  # requests whose bodies are arriving
    time_s: float = 120.0  # from the last byte of the body to the answer
    body_s: float = 30.0  # for the body to arrive
    header_s: float = 15.0  # for a connection's first header to arrive
    passing: int = 3  # large bodies on the way from Ray Serve's proxy, for each replica


@dataclass(eq=False)
class Refusal(Exception):
    """A request that is answered with an error."""

    status: HTTPStatus
    error: str  # what is wrong, in a few words that are the same for all such requests
    detail: str  # what was found in this one, and what would be right
    limit: Mapping[str, float] | None = field(default=None, kw_only=True)  # that was exceeded, by its name in `Limits`
    retry_after_s: int | None = field(default=None, kw_only=True)  # None: the same request will fail again

    def __str__(self) -> str:
        return f"{self.error}: {self.detail}"

    @property
    def body(self) -> dict[str, Any]:
        """The answer, ready for JSON."""
        return {"error": self.error, "detail": self.detail, "limit": self.limit}

    @property
    def headers(self) -> dict[str, str]:
        """The answer's own headers."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


def busy(detail: str, seconds: float = 5, **limit: float) -> Refusal:
    """Return the answer where there is no room now; `seconds`: when there may be."""
    wait = round(min(max(seconds, 1), 120))
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, limit=limit, retry_after_s=wait)


def too_many_bytes(limits: Limits, found: str) -> Refusal:
    """Return the answer to a body that is too large; `found` says how large it is."""
    detail = f"{found}; at most {limits.max_bytes:,}"
    limit = {"max_bytes": limits.max_bytes}
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too many bytes", detail, limit=limit)


def refusal_of(error: DataError, limits: Limits) -> Refusal:
    """Return the answer to a picture that can't be read, or can't be written in the format that was asked for."""
    if not isinstance(error, RefusedError):
        return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "not possible", str(error))
    status = STATUS_BY_KIND.get(error.kind, HTTPStatus.UNPROCESSABLE_ENTITY)
    limit = {"max_pixels": limits.max_pixels} if error.kind == "too many pixels" else None
    return Refusal(status, error.kind, error.detail, limit=limit)
