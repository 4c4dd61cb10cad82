"""YAML without its traps: settings come out as they look, or the file and line that are wrong are named.

`1e-4` is a number; `on`, `yes` and `1:30` are texts; `08` is 8; a name given twice is an error; aliases can't blow up.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode
from yaml.constructor import ConstructorError

from sisr.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
MAX_VALUES = 100_000  # with every alias counted as what it stands for


class Located(dict[str, Any]):
    """Settings that know where each was written: `where[name]` is "file:line"."""

    def __init__(self, values: Mapping[str, Any], where: Mapping[str, str]) -> None:
        super().__init__(values)
        self.where = dict(where)

    def __or__(self, other: Mapping[str, Any]) -> "Located":  # type: ignore[override]
        """Return these settings with `other`'s in their stead where both have one; each knows its place."""
        kept = {name: place for name, place in self.where.items() if name not in other}
        return Located({**self, **other}, {**kept, **getattr(other, "where", {})})


class Loader(yaml.SafeLoader):
    """SafeLoader with the numbers and booleans of YAML 1.2, limits, and no merge keys."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Refuse what is nested so deep that nobody wrote it by hand."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ConstructorError(None, None, f"more than {MAX_DEPTH} levels deep", self.get_mark())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> Node | None:
        """Refuse aliases that stand for too much, or for what holds them."""
        node = super().get_single_node()
        if node is not None and _size(node, {}) > MAX_VALUES:
            raise ConstructorError(None, None, f"its aliases stand for over {MAX_VALUES:,} values", node.start_mark)
        return node

    def construct_settings(self, node: MappingNode) -> Located:
        """Return a mapping whose names are texts, each given once."""
        values: dict[str, Any] = {}
        where: dict[str, str] = {}
        for name_node, value_node in node.value:
            name, place = self.construct_object(name_node, deep=True), _place(name_node.start_mark)
            if not isinstance(name, str):
                raise ConstructorError(None, None, f"a name must be a text, got {name!r}", name_node.start_mark)
            if name in values:
                problem = f"'{name}' is given twice, first at {where[name]}"
                raise ConstructorError(None, None, problem, name_node.start_mark)
            values[name] = self.construct_object(value_node, deep=True)
            where[name] = place
        return Located(values, where)

    def construct_whole(self, node: ScalarNode) -> int:
        """Return a whole number; a leading zero means nothing, 0x and 0o mean what they do in Python."""
        text = str(self.construct_scalar(node))
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)

    def construct_number(self, node: ScalarNode) -> float:
        """Return a number, `.inf` and `.nan` included."""
        return float(str(self.construct_scalar(node)).lower().replace(".inf", "inf").replace(".nan", "nan"))


Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1's
RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
)
for kind, pattern, first in RESOLVERS:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z"), list(first))
Loader.add_constructor("tag:yaml.org,2002:map", Loader.construct_settings)
Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_whole)
Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_number)


def _size(node: Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for; `known` holds the sizes found, 0 for nodes being counted."""
    if id(node) not in known:
        known[id(node)] = 0
        children: list[Node] = []
        if isinstance(node, MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    elif known[id(node)] == 0:
        raise ConstructorError(None, None, "an alias stands for what holds it", node.start_mark)
    return known[id(node)]


def _place(mark: yaml.Mark) -> str:
    is_file = not mark.name.startswith("--")
    return f"{mark.name}:{mark.line + 1}" if is_file else str(mark.name)


def read_yaml(path: str | Path) -> Located:
    """Return the settings in a YAML file; each knows its file and line.

    Raises:
        ConfigError: The file can't be read, is not YAML, or falls into one of YAML's traps.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(content):,} bytes are too many for settings; at most {MAX_BYTES:,}")
    try:
        settings = parse(content.decode(), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8 (byte {error.start})") from None
    if settings is None:
        return Located({}, {})
    if not isinstance(settings, Located):
        raise ConfigError(f"{path}: wants lines NAME: VALUE, got {settings!r:.60}")
    return settings


def parse(text: str, source: str) -> Any:
    """Return the value that a YAML text stands for.

    Raises:
        ConfigError: It is not YAML, or falls into one of YAML's traps; the message begins with `source` and line.
    """
    loader: Loader | None = None
    try:
        loader = Loader(text)
        loader.name = source
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{_place(mark) if mark else source}: {problem}") from None
    except (yaml.YAMLError, ValueError) as error:  # characters no text holds; dates that don't exist
        raise ConfigError(f"{source}: {error}") from None
    finally:
        if loader:
            loader.dispose()
