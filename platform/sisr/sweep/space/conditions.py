"""Conditions between settings, as search spaces state them: `discriminator_learning_rate <= 4 * learning_rate`.

A condition is an expression in Python of settings, numbers, texts, lists, true, false and null: comparisons, `and`,
`or`, `not`, `in`, and + - * / %. Nothing else is evaluated.
"""

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sisr.config.wording import did_you_mean

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, values: value in values,
    ast.NotIn: lambda value, values: value not in values,
}
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
CONSTANTS = {"true": True, "false": False, "null": None}
EXAMPLE = "such as 'adversarial_weight > 0 and generator_steps in [1, 2]'"


@dataclass(frozen=True)
class Condition:
    """An expression that is true or false of a trial's settings."""

    text: str
    names: tuple[str, ...]  # settings in it

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Return whether it is true; a value that has no such comparison makes it false."""
        try:
            return bool(_value(ast.parse(self.text, mode="eval").body, settings))
        except (TypeError, ZeroDivisionError):
            return False


def condition(text: Any, known: Collection[str]) -> Condition:
    """Return the condition that a text states.

    Raises:
        ValueError: It is none, or names a setting that is not among the `known`.
    """
    if not isinstance(text, str):
        raise ValueError(f"wants a condition {EXAMPLE}, got {text!r}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise ValueError(f"'{text}' is no condition; it wants one {EXAMPLE}") from None
    for node in ast.walk(tree):
        _check(node, text)
    names = tuple(dict.fromkeys(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id not in CONSTANTS))
    for name in names:
        if name not in known:
            raise ValueError(f"'{text}' names no setting by '{name}'; {did_you_mean(name, known) or 'see the recipe'}")
    if not names:
        raise ValueError(f"'{text}' names no setting; it wants a condition {EXAMPLE}")
    return Condition(text.strip(), names)


def from_when(written: Any) -> str:
    """Return the text of a `when`, which is one already, or a mapping: {generator_steps: 2, adversarial_weight: "> 0"}.

    Raises:
        ValueError: It is neither.
    """
    if not isinstance(written, Mapping):
        return str(written) if isinstance(written, str) else _wrong(written)
    if not written:
        return _wrong(written)
    return " and ".join(f"({name} {_compared(value)})" for name, value in written.items())


def _wrong(written: Any) -> str:
    raise ValueError(f'when wants {{SETTING: VALUE}}, {{SETTING: "> 0"}} or a condition {EXAMPLE}, got {written!r}')


def _compared(value: Any) -> str:
    """Return the comparison that stands behind a setting's name."""
    if isinstance(value, str) and value.lstrip()[:1] in ("<", ">", "=", "!"):
        return value
    return f"in {value!r}" if isinstance(value, list) else f"== {value!r}"


def _check(node: ast.AST, text: str) -> None:
    allowed = (ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.BinOp, ast.Name, ast.Load)
    kinds = (*allowed, ast.Constant, ast.List, ast.Tuple, *COMPARISONS, *ARITHMETIC)
    if not isinstance(node, kinds) or (isinstance(node, ast.Constant) and isinstance(node.value, bytes | complex)):
        raise ValueError(f"'{text}' is no condition: {type(node).__name__} has no meaning here; one {EXAMPLE}")


def _value(node: ast.expr, settings: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return CONSTANTS[node.id] if node.id in CONSTANTS else settings[node.id]
        case ast.List() | ast.Tuple():
            return [_value(element, settings) for element in node.elts]
        case ast.BoolOp():
            combine = all if isinstance(node.op, ast.And) else any
            return combine(_value(value, settings) for value in node.values)
        case ast.UnaryOp():
            value = _value(node.operand, settings)
            return not value if isinstance(node.op, ast.Not) else -value
        case ast.BinOp():
            return ARITHMETIC[type(node.op)](_value(node.left, settings), _value(node.right, settings))
        case ast.Compare():
            values = [_value(one, settings) for one in (node.left, *node.comparators)]
            pairs = zip(values, node.ops, values[1:], strict=False)
            return all(COMPARISONS[type(op)](left, right) for left, op, right in pairs)
    raise AssertionError(node)  # `condition` has let nothing else pass
