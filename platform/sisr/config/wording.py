"""Words for what users write and read: what values a setting takes, the known name nearest to theirs, safe text."""

import difflib
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

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
# What people type because another program calls it so.
ALIASES = {
    "lr": "learning_rate",
    "lr_g": "learning_rate",
    "lr_d": "discriminator_learning_rate",
    "eta": "learning_rate",
    "bs": "batch_size",
    "batch": "batch_size",
    "num_iters": "steps",
    "iterations": "steps",
    "iters": "steps",
    "max_steps": "steps",
    "total_iter": "steps",
    "sf": "scale",
    "upscale": "scale",
    "factor": "scale",
    "gt_size": "hr_crop",
    "crop_size": "hr_crop",
    "patch_size": "hr_crop",
    "nf": "num_features",
    "nb": "num_blocks",
    "num_layers": "num_blocks",
    "random_seed": "seed",
    "manual_seed": "seed",
    "grad_accum": "accumulate",
    "amp": "precision",
    "fp16": "precision",
    "bf16": "precision",
    "grad_clip": "clip_norm",
    "b1": "beta1",
    "b2": "beta2",
}


@dataclass(frozen=True)
class Words:
    """Part of an annotated type: how messages call its values."""

    text: str


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
    said = [constraint.text for constraint in field.metadata if isinstance(constraint, Words)]
    words = " or ".join(said or map(_kind, kinds))
    if bounds:
        words += (", " if ", each " in words else " ") + " and ".join(bounds)
    return f"{words}, or null" if nullable else words


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        said = [constraint.text for constraint in arguments[1:] if isinstance(constraint, Words)]
        return said[0] if said else _kind(arguments[0])
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_kind, arguments))
    if origin in (tuple, list):
        count = f" of {len(arguments)}" if origin is tuple and Ellipsis not in arguments else ""
        each = f", each {_kind(arguments[0])}" if len({*arguments} - {Ellipsis}) == 1 else ""
        return f"a list{count}{each}"
    return KINDS.get(origin or annotation) or str(getattr(annotation, "__name__", annotation))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name nearest to `name`, or None where none is near."""
    by_form = {_form(word): word for word in known}
    form = _form(name)
    if ALIASES.get(form) in by_form:
        return by_form[ALIASES[form]]
    by_words = {_sorted_words(word): word for word in by_form}
    if _sorted_words(form) in by_words:  # rate_learning
        return by_form[by_words[_sorted_words(form)]]
    found = difflib.get_close_matches(form, by_form, n=1)
    return by_form[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return "did you mean 'X'?" with the nearest known name, or None where none is near."""
    near = nearest(name, known)
    return f"did you mean '{near}'?" if near else None


def _form(name: str) -> str:
    """Return a name without what spelling habits differ in: batchSize, --batch-size and batch_size are one."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[-\s.]+", "_", spaced.lstrip("-")).lower()


def _sorted_words(form: str) -> str:
    return "_".join(sorted(form.split("_")))


def printable(text: str, keep: str = "") -> str:
    """Return the text with all escaped that is no text or would steer a terminal, but for characters to keep."""
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
