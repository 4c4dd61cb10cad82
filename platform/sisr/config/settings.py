"""Strict settings: YAML files and NAME=VALUE overrides become checked, frozen models, or errors that help.

A number is not a boolean, a text is not a number, and a name nobody knows is an error with a suggestion.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic import Field as Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from sisr.config.wording import did_you_mean, expected
from sisr.config.yaml import Located, parse, read_yaml
from sisr.errors import ConfigError

S = TypeVar("S", bound="Settings")


@dataclass(frozen=True)
class Preset:
    """Settings that go together, by which a recipe fits a machine or a kind of images."""

    about: str  # what for, and what was measured or counted with it
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)  # how it is run, such as accumulate


class Settings(BaseModel):
    """Base of every settings model: frozen; unknown names, NaN, infinity and loose types are refused."""

    presets: ClassVar[Mapping[str, Preset]] = {}  # of a recipe, by the name that --preset gives

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="wrap")
    @classmethod
    def _same_kind(cls, value: Any, validate: Any) -> Any:
        checked = validate(value)
        if not _is_same_kind(value, checked):
            raise PydanticCustomError("kind", "wrong type")
        return checked


def _is_same_kind(given: Any, checked: Any) -> bool:
    """Return whether validation, which is lenient by itself, kept booleans, numbers and texts what they were."""
    if isinstance(checked, bool):
        return isinstance(given, bool)
    if isinstance(checked, int | float):
        return isinstance(given, int | float) and not isinstance(given, bool)
    if isinstance(checked, list | tuple):
        return isinstance(given, list | tuple) and all(map(_is_same_kind, given, checked))
    if isinstance(checked, dict) and isinstance(given, Mapping):
        return all(_is_same_kind(given[key], checked[key]) for key in checked if key in given)
    return True


def build(
    model: type[S], values: Mapping[str, Any], *, source: str = "--set", elsewhere: Mapping[str, str] | None = None
) -> S:
    """Return a checked model.

    Args:
        model: What to build.
        values: Settings by name; where they come from `read_yaml`, errors name file and line.
        source: Where values without a known place come from: an option or a file.
        elsewhere: Names that are no settings of this model, and by which option of the command line they are given.

    Raises:
        ConfigError: Names are unknown, or values have a wrong type or range; one line for each.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        found = (_explain(model, values, one, source, elsewhere or {}) for one in error.errors())
        raise ConfigError("\n".join(dict.fromkeys(found))) from None


def _explain(model: type[BaseModel], values: Any, error: Any, source: str, elsewhere: Mapping[str, str]) -> str:
    """Return where and what is wrong, for one of pydantic's errors."""
    place, name = source, ""
    for part in map(str, error["loc"]):
        place = getattr(values, "where", {}).get(part, place)
        name = f"{name}.{part}" if name else part
        field = model.model_fields.get(part)
        if field is None:
            if part in elsewhere:
                return f"{place}: '{name}' is no setting; it is given by {elsewhere[part]} {part}=..."
            what = "option" if place == "--option" else "setting"
            hint = did_you_mean(part, model.model_fields) or f"all {what}s: {', '.join(model.model_fields)}"
            return f"{place}: no {what} '{name}'; {hint}"
        given = part in values
        values = values.get(part)
        inner = field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(values, Mapping)):
            missing = f"{name} is missing; it wants {expected(field)}"
            return f"{place}: {_wrong(name, field, values, error) if given else missing}"
        model = inner
    return f"{place}: {error.get('ctx', {}).get('error') or error['msg']}"


def _wrong(name: str, field: FieldInfo, value: Any, error: Any) -> str:
    given = repr(value) if len(repr(value)) <= 80 else f"{value!r:.77}..."
    if error["type"] == "value_error":  # our own validator's words
        return f"{name}: {error['ctx']['error']}, got {given}"
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    hint = did_you_mean(value, choices) if isinstance(value, str) else None
    return f"{name} wants {expected(field)}, got {given}" + (f"; {hint}" if hint else "")


def parse_override(text: str, option: str = "--set") -> tuple[str, Any]:
    """Return (name, value) of an option's "name=value" on the command line; the value is read as in a YAML file.

    Raises:
        ConfigError: It has no "=", no name or no value, or the value is not YAML.
    """
    name, equals, written = text.partition("=")
    name, written = name.strip(), written.strip()
    if not equals or not name:
        raise ConfigError(f"{option} wants NAME=VALUE, got '{text}'")
    value = parse(written, f"{option} {name}")
    if value is None and written not in ("null", "~"):
        raise ConfigError(f"{option} {name}= has no value; null stands for none, '' for an empty text")
    return name, value


def parse_overrides(texts: Iterable[str], option: str = "--set") -> dict[str, Any]:
    """Return the values that several texts of an option give, by name.

    Raises:
        ConfigError: One can't be read, or a name is given twice.
    """
    values: dict[str, Any] = {}
    for name, value in (parse_override(text, option) for text in texts):
        if name in values:
            raise ConfigError(f"{option} {name} is given twice")
        values[name] = value
    return values


__all__ = ["Located", "Settings", "build", "did_you_mean", "expected", "parse_override", "parse_overrides", "read_yaml"]
