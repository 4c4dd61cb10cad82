"""The format of the answer: what was asked for, else the first that the client accepts."""

from http import HTTPStatus

from sisr.serving.limits import Refusal

MEDIA_TYPES = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}  # by suffix, the best guess first
NAMES = {"png": ".png", "webp": ".webp", "jpg": ".jpg", "jpeg": ".jpg"}  # what ?format= may say


def choose(format_: str | None, accept: str | None) -> str:
    """Return the suffix of the format to answer in, for one of `NAMES` and the request's header Accept.

    Raises:
        Refusal: Nothing that the client accepts can be written.
    """
    if format_ is not None:
        return NAMES[format_]
    weights = {suffix: _weight(media, accept or "*/*") for suffix, media in MEDIA_TYPES.items()}
    best = max(weights, key=lambda suffix: weights[suffix])  # of equal ones the first
    if weights[best] <= 0:
        detail = f"Accept: {accept} leaves none of {', '.join(MEDIA_TYPES.values())}"
        raise Refusal(HTTPStatus.NOT_ACCEPTABLE, "not acceptable", detail)
    return best


def _weight(media: str, accept: str) -> float:
    """Return how welcome a media type is, 0 .. 1: by the most specific range that covers it (RFC 9110, 12.5.1)."""
    found = (-1, 0.0)  # specificity, weight
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        specificity = {media: 2, f"{media.partition('/')[0]}/*": 1, "*/*": 0}.get(name, -1)
        quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        found = max(found, (specificity, _number(quality)), key=lambda pair: pair[0])
    return found[1] if found[0] >= 0 else 0.0


def _number(quality: str) -> float:
    try:
        return min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return 0.0
