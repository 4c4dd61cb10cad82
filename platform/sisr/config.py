"""Strict settings: YAML files and NAME=VALUE overrides become checked, frozen models, or errors that help.

A number is not a boolean, a text is not a number, and a name nobody knows is an error with a suggestion.
"""

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from sisr.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 20

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings model: frozen; unknown names, NaN, infinity and loose types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="wrap")
    @classmethod
    def _same_kind(cls, value: Any, validate: Any) -> Any:
        checked = validate(value)
        if not _is_same_kind(value, checked):
            raise PydanticCustomError("kind", "wrong type")
        return checked


def _is_same_kind(given: Any, checked: Any) -> bool:
    """Return whether validation kept booleans, numbers and texts what they were."""
    if isinstance(checked, bool):
        return isinstance(given, bool)
    if isinstance(checked, int | float):
        return isinstance(given, int | float) and not isinstance(given, bool)
    if isinstance(checked, list | tuple) and isinstance(given, list | tuple):
        return all(map(_is_same_kind, given, checked))
    if isinstance(checked, dict) and isinstance(given, Mapping):
        return all(_is_same_kind(given[key], checked[key]) for key in checked if key in given)
    return True


class Located(dict[str, Any]):
    """Settings that know where each was written: `where[name]` is "file:line"."""

    def __init__(self, values: Mapping[str, Any], where: Mapping[str, str]) -> None:
        super().__init__(values)
        self.where = dict(where)

    def __or__(self, other: Mapping[str, Any]) -> "Located":  # type: ignore[override]
        """Return these settings replaced by `other`'s, each still knowing where it was written."""
        kept = {name: place for name, place in self.where.items() if name not in other}
        return Located({**self, **other}, {**kept, **getattr(other, "where", {})})


def build(model: type[S], values: Mapping[str, Any], *, source: str = "--set") -> S:
    """Return a checked model.

    Args:
        model: What to build.
        values: Settings by name; where they come from `read_yaml`, errors name file and line.
        source: Where values without a known place come from: an option or a file.

    Raises:
        ConfigError: Names are unknown, or values have a wrong type or range. One line each.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        lines: dict[tuple[str, str], str] = {}
        for found in error.errors():
            place, name, message = _explain(model, values, found, source)
            lines.setdefault((place, name), f"{place}: {message}")
        raise ConfigError("\n".join(lines.values())) from None


def _explain(model: type[BaseModel], values: Any, found: Any, source: str) -> tuple[str, str, str]:
    """Return (where, dotted name, what is wrong) for one of pydantic's errors."""
    path: list[str] = []
    place = source
    for part in found["loc"]:
        place = getattr(values, "where", {}).get(part, place)
        path.append(str(part))
        field = model.model_fields.get(str(part))
        if field is None:
            return place, ".".join(path), _unknown(model, path)
        values = values.get(part) if isinstance(values, Mapping) else None
        inner = field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(values, Mapping)):
            return place, ".".join(path), _wrong(".".join(path), field, values, found)
        model = inner
    message = str(found.get("ctx", {}).get("error") or found["msg"])
    return place, "", message


def _unknown(model: type[BaseModel], path: list[str]) -> str:
    hint = did_you_mean(path[-1], model.model_fields) or f"all settings: {', '.join(model.model_fields)}"
    return f"no setting '{'.'.join(path)}'; {hint}"


def _wrong(name: str, field: FieldInfo, value: Any, found: Any) -> str:
    if found["type"] == "missing":
        return f"{name} is missing; it wants {expected(field)}"
    if found["type"] == "value_error":
        return f"{name}: {found['ctx']['error']}, got {value!r}"
    return f"{name} wants {expected(field)}, got {value!r}"


def expected(field: FieldInfo) -> str:
    """Return in words what values a field takes, such as "a whole number >= 1"."""
    words = _kind(field.annotation)
    bounds = {}
    for constraint in field.metadata:
        for name, symbol in BOUNDS.items():
            if getattr(constraint, name, None) is not None:
                bounds[symbol] = getattr(constraint, name)
    limits = " and ".join(f"{symbol} {limit}" for symbol, limit in bounds.items())
    return f"{words} {limits}" if limits and " or " not in words else words + (f", {limits}" if limits else "")


BOUNDS = {
    "gt": ">",
    "ge": ">=",
    "lt": "<",
    "le": "<=",
    "multiple_of": "a multiple of",
    "min_length": "length at least",
    "max_length": "length at most",
    "pattern": "like",
}
KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    type(None): "null",
    Any: "anything",
}


def _kind(annotation: Any) -> str:
    if annotation in KINDS:
        return KINDS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(argument) for argument in arguments)
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin is tuple and Ellipsis not in arguments:
        same = len(set(arguments)) == 1
        return f"a list of {len(arguments)}" + (f", each {_kind(arguments[0])}" if same else "")
    if origin in (tuple, list):
        return f"a list, each {_kind(arguments[0])}"
    return "a mapping" if origin is dict else getattr(annotation, "__name__", str(annotation))


ALIASES = {
    "lr": "learning_rate",
    "bs": "batch_size",
}


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return "did you mean 'X'?" with the known name nearest to `name`, or None where none is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    if ALIASES.get(name) in known:
        near = [ALIASES[name]]
    return f"did you mean '{near[0]}'?" if near else None


class Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's numbers and booleans."""

    yaml_implicit_resolvers: typing.ClassVar[Any] = {}


RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
    ("merge", r"<<", "<"),
)
for tag, pattern, first in RESOLVERS:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})\Z"), [c if c != "\0" else "" for c in first])


def read_yaml(path: str | Path) -> Located:
    """Return a YAML file's settings, each with file and line."""
    path = Path(path)
    try:
        content = yaml.load(path.read_text(), Loader)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return Located(content or {}, {})


def parse_override(text: str) -> tuple[str, Any]:
    """Return (name, value) of a command-line override "name=value"; the value is YAML."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set wants NAME=VALUE, got '{text}'")
    return name.strip(), yaml.load(value, Loader)
