"""What values a setting takes, in words."""

import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

BOUNDS = {
    "gt": ">",
    "ge": ">=",
    "lt": "<",
    "le": "<=",
    "multiple_of": "a multiple of",
    "min_length": "of length >=",
    "max_length": "of length <=",
    "pattern": "like",
}
KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    Any: "anything",
    dict: "a mapping",
}


def expected(field: FieldInfo) -> str:
    """Return in words what values a field takes, such as "a whole number >= 1"."""
    arguments = get_args(field.annotation)
    nullable = type(None) in arguments and get_origin(field.annotation) is not Literal
    kinds = [argument for argument in arguments if argument is not type(None)] if nullable else [field.annotation]
    bounds = [
        f"{symbol} {getattr(constraint, name)}"
        for constraint in field.metadata
        for name, symbol in BOUNDS.items()
        if getattr(constraint, name, None) is not None
    ]
    words = " or ".join(map(_kind, kinds))
    if bounds:
        words += (", " if ", each " in words else " ") + " and ".join(bounds)
    return f"{words}, or null" if nullable else words


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_kind, arguments))
    if origin in (tuple, list):
        count = f" of {len(arguments)}" if origin is tuple and Ellipsis not in arguments else ""
        each = f", each {_kind(arguments[0])}" if len({*arguments} - {Ellipsis}) == 1 else ""
        return f"a list{count}{each}"
    return KINDS.get(origin or annotation) or str(getattr(annotation, "__name__", annotation))
