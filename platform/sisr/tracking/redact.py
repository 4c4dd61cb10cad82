"""Hide secrets in what is recorded about a run.

Names are compared word by word, so that `api_token` is hidden while `tokenizer`, `max_tokens` and `author` survive;
values are searched for the forms that well-known secrets have. Redact before writing: nothing sent can be taken back.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

HIDDEN = "[redacted]"
CODE = "recipe_source"  # the setting that is a whole file of code, in which `token = read()` is no secret

_SECRET_WORDS = {"password", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "credential", "credentials"}
_SECRET_WORDS |= {"apikey", "auth", "authorization", "bearer", "cookie"}
_SECRET_PAIRS = {("api", "key"), ("access", "key"), ("private", "key"), ("secret", "key"), ("account", "key")}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# Each pattern's group `keep`, where it has one, stays readable.
_SECRET_FORMS = [
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?P<keep>\b[A-Za-z][A-Za-z0-9+.]*://)[^/\s:@]*:[^/\s]+(?=@)"),  # scheme://user:password@host
    re.compile(r"(?P<keep>\b[A-Za-z][A-Za-z0-9+.]*://)[^/\s:@]{16,}(?=@)"),  # scheme://token@host
    re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),  # Amazon access key ids
    re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{20,})"),
    re.compile(r"\bhf_[A-Za-z0-9]{20,}"),  # Hugging Face
    re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),  # OpenAI, Anthropic
    re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),  # Slack
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),  # JSON web tokens
    re.compile(r"(?P<keep>\b(Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE),
    re.compile(  # name=value and name: value inside commands, addresses and messages
        r"(?P<keep>\b(?:[A-Za-z0-9]+[_-])*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key)[\"']?\s*[=:]\s*[\"']?)"
        r"[^\s\"'&,;]+",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<keep>--(?:[a-z0-9]+-)*(?:password|passwd|secret|token|api-key|access-key)\s+)[^\s-]\S*"),
]


def is_secret_name(name: str) -> bool:
    """Whether a field called `name` holds a secret, judged by its whole words (snake, kebab, camel or dotted case)."""
    words = [w.lower() for w in _WORD.findall(name)]
    return not _SECRET_WORDS.isdisjoint(words) or not _SECRET_PAIRS.isdisjoint(pairwise(words))


def redact_text(text: str) -> str:
    """Return `text` with everything that looks like a secret replaced by `[redacted]`."""
    return str(redact(text))


def redact(value: Any, taken: set[str] | None = None) -> Any:
    """Return a copy of `value` (nested dicts, lists and text) without secrets; other values are returned unchanged.

    Args:
        value: What is to be recorded.
        taken: Gets each piece of text that is taken out.
    """
    if isinstance(value, str):
        return _redacted_text(value, taken)
    if isinstance(value, Mapping):
        return {name: _redacted_field(str(name), inner, taken) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact(inner, taken) for inner in value]
    return value


def _redacted_text(text: str, taken: set[str] | None) -> str:
    def kept(found: re.Match[str]) -> str:
        return found.groupdict().get("keep") or ""

    clean = text
    for form in _SECRET_FORMS:
        if taken is not None:
            taken.update(found[0].removeprefix(kept(found)) for found in form.finditer(text))
        clean = form.sub(lambda found: kept(found) + HIDDEN, clean)
    return clean


def _redacted_field(name: str, value: Any, taken: set[str] | None) -> Any:
    if name == CODE:
        return value
    if not is_secret_name(name) or value in (None, ""):
        return redact(value, taken)
    if taken is not None:
        taken.update(_texts(value))
    return HIDDEN


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
    elif value not in (None, ""):
        yield str(value)
