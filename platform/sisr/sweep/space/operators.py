"""Operators: Ray Tune's names for domains, with the arguments in its order, checked before they mean anything."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from sisr.config.wording import did_you_mean, expected
from sisr.sweep.space.domains import Choice, Domain, Number, is_number, rounded

DEVIATIONS = 4  # a normal domain ends here, so that all that it can give is known before a sweep starts
FINEST = 100_000  # multiples of q up to the largest value, so that six digits distinguish all of them


@dataclass(frozen=True)
class Operator:
    """How a domain is written: `{name: arguments}`."""

    arguments: str  # as an error shows them
    counts: tuple[int, ...]  # how many there may be
    number: type  # int or float: of the arguments and of all values
    domain: Callable[..., Domain]  # raises ValueError with the reason


def _real(name: str, lower: float, upper: float, q: float | None = None) -> Number:
    log = "log" in name
    _check_bounds(lower, upper, log)
    if q is not None:
        _check_q(q)
        if any(not math.isclose(bound / q, round(bound / q), abs_tol=1e-9) for bound in (lower, upper)):
            raise ValueError(f"lower {lower:g} and upper {upper:g} must be multiples of q {q:g}")
        if max(abs(lower), abs(upper)) / q > FINEST:
            raise ValueError(f"q {q:g} is too fine to distinguish values; use {name.removeprefix('q')}")
    return Number(lower, upper, log, q)


def _whole(name: str, lower: int, upper: int, q: int = 1) -> Number:
    log = "log" in name
    _check_bounds(lower, upper, log)
    _check_q(q)
    # Ray Tune's bounds: the upper one is included only where there is a q of more than 1.
    first, last = -(-lower // q) * q, (upper - 1 if q == 1 else upper // q * q)
    if first >= last:
        bound = "the upper bound is excluded" if q == 1 else f"values are multiples of q {q}"
        raise ValueError(f"fewer than two values lie in {lower} .. {upper} ({bound}); widen it, or fix the setting")
    return Number(first, last, log, q, whole=True)


def _normal(name: str, mean: float = 0.0, sd: float = 1.0, q: float | None = None) -> Number:
    if sd <= 0:
        raise ValueError(f"sd must be more than 0, got {sd:g}")
    if q is not None:
        _check_q(q)
    low, high = (rounded(mean + sign * DEVIATIONS * sd, q) for sign in (-1, 1))
    return Number(low, high, q=q, normal=(mean, sd))


def _choice(name: str, *values: Any) -> Choice:
    if any(Choice(values[:i]).contains(value) for i, value in enumerate(values)):
        raise ValueError(f"a value is given twice in {list(values)}")
    return Choice(values)


def _check_bounds(lower: float, upper: float, log: bool) -> None:
    if lower >= upper:
        raise ValueError(f"lower {lower:g} must be less than upper {upper:g}")
    if log and lower <= 0:
        raise ValueError(f"lower must be more than 0 on a logarithmic scale, got {lower:g}")


def _check_q(q: float) -> None:
    if q <= 0:
        raise ValueError(f"q must be more than 0, got {q:g}")


BOUNDS, LIST = "[lower, upper]", "a list of at least two values"
OPERATORS = {
    "uniform": Operator(BOUNDS, (2,), float, _real),
    "quniform": Operator("[lower, upper, q]", (3,), float, _real),
    "loguniform": Operator(BOUNDS, (2,), float, _real),
    "qloguniform": Operator("[lower, upper, q]", (3,), float, _real),
    "randn": Operator("[mean, sd]", (0, 1, 2), float, _normal),
    "qrandn": Operator("[mean, sd, q]", (3,), float, _normal),
    "randint": Operator(BOUNDS, (2,), int, _whole),
    "qrandint": Operator("[lower, upper, q]", (2, 3), int, _whole),
    "lograndint": Operator(BOUNDS, (2,), int, _whole),
    "qlograndint": Operator("[lower, upper, q]", (3,), int, _whole),
    "choice": Operator(LIST, (), object, _choice),
    "grid_search": Operator(LIST, (), object, _choice),
}
LISTS = ("choice", "grid_search")  # operators that list what there is


def domain_of(written: Any, field: FieldInfo) -> Domain:
    """Return the domain that `{operator: arguments}` describes for a setting of a recipe.

    Raises:
        ValueError: It describes none, or not one for this setting; the message names what would be right.
    """
    if not isinstance(written, dict) or len(written) != 1:
        raise ValueError(f"wants one {{OPERATOR: ARGUMENTS}}, got {_short(written)}{_meant(written)}")
    ((name, arguments),) = written.items()
    if name not in OPERATORS:
        raise ValueError(f"no operator '{name}'; {did_you_mean(name, OPERATORS) or 'all: ' + ', '.join(OPERATORS)}")
    operator = OPERATORS[name]
    if not isinstance(arguments, list) or (
        len(arguments) < 2 if name in LISTS else len(arguments) not in operator.counts
    ):
        raise ValueError(f"{name} wants {operator.arguments}, got {_short(arguments)}")
    if name in LISTS:  # 10 is 10.0 for a setting that wants numbers
        real = number_types(field) == {float}
        return operator.domain(name, *(float(value) if real and type(value) is int else value for value in arguments))
    _check_field(name, operator, field)
    numbers = [_number(name, operator, argument) for argument in arguments]
    return operator.domain(name, *numbers)


def _meant(written: Any) -> str:
    """Return what somebody may have meant who wrote no operator."""
    if isinstance(written, list):
        return f"; {{choice: {_short(written)}}} draws from a list"
    if isinstance(written, dict) or written is None:
        return "; such as {loguniform: [1e-5, 1e-3]}"
    return "; one value for all trials stands under fixed, not under space"


def _check_field(name: str, operator: Operator, field: FieldInfo) -> None:
    """Raise ValueError where an operator's numbers are not the setting's."""
    takes = number_types(field)
    if not takes:
        raise ValueError(f"{name} gives numbers, but the setting wants {expected(field)}; use choice")
    if operator.number not in takes:
        kinds = {int: "whole numbers", float: "numbers that are not whole"}
        use = "randint, qrandint or lograndint" if int in takes else "uniform, quniform or loguniform"
        raise ValueError(f"{name} gives {kinds[operator.number]}, but the setting wants {expected(field)}; use {use}")


def number_types(field: FieldInfo) -> set[type]:
    """Return which of int and float a setting takes."""
    annotation = field.annotation
    kinds: Sequence[Any] = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return {kind for kind in kinds if kind in (int, float)}


def _number(name: str, operator: Operator, argument: Any) -> Any:
    if not (is_number(argument) and math.isfinite(argument)) or (operator.number is int and argument != int(argument)):
        kind = "whole numbers" if operator.number is int else "numbers"
        raise ValueError(f"{name} wants {kind} as {operator.arguments}, got {_short(argument)}")
    return operator.number(argument)


def _short(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 60 else f"{value!r:.57}..."
