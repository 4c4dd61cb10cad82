"""What a Ray cluster has, what its autoscaler may add, and how many workers fit there.

Ray's autoscaler tells nobody what it could start. Its configuration says it: on the head of a cluster that `ray up`
started, or in the variable SISR_NODE_TYPES elsewhere, a JSON list such as
`[{"max_workers": 4, "resources": {"CPU": 3, "GPU": 1}}]`.
"""

import contextlib
import io
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sisr.config.yaml import read_yaml
from sisr.disk.cache import home
from sisr.doctor.cluster_file import RefusedError
from sisr.errors import ConfigError

NODE_TYPES = "SISR_NODE_TYPES"
LAUNCHER_FILE = "ray_bootstrap_config.yaml"  # in the home folder of the head's user
HEAD = "node:__internal_head__"  # a resource of the head alone

Resources = dict[str, float]  # CPU, GPU


@dataclass(frozen=True)
class NodeType:
    """A kind of node that the autoscaler may start."""

    count: int  # at most
    resources: Resources | None  # of each; None: as Ray finds them once a node is up


@dataclass(frozen=True)
class Capacity:
    """The nodes that are up, and those that may come."""

    head: Resources
    nodes: tuple[Resources, ...]  # that are up, the head not among them
    types: tuple[NodeType, ...] = ()
    limit: int | None = None  # of nodes of all types together

    @property
    def grows(self) -> bool:
        """Whether an autoscaler may add nodes."""
        return bool(self.types)

    @property
    def uncertain(self) -> bool:
        """Whether nodes may come whose resources are not known."""
        return any(kind.resources is None for kind in self.types)

    def fits(self, each: Resources) -> int:
        """Return how many workers that need `each` fit on the nodes that are up."""
        return _fits((self.head, *self.nodes), each)

    def may_fit(self, each: Resources) -> int:
        """Return how many workers that need `each` fit at most, on nodes that are up or may come."""
        return max(self.fits(each), _fits((self.head, *self._largest(each)), each))

    def total(self, name: str) -> float:
        """Return how much of a resource there may be at most."""
        now, later = ((self.head, *some) for some in (self.nodes, self._largest({name: 1.0})))
        return max(sum(node.get(name, 0.0) for node in some) for some in (now, later))

    def _largest(self, each: Resources) -> list[Resources]:
        """Return the nodes that may be up together, those on which most workers fit first."""
        known = [kind for kind in self.types if kind.resources is not None]
        known.sort(key=lambda kind: -_fits([kind.resources or {}], each))
        nodes = [kind.resources or {} for kind in known for _ in range(kind.count)]
        return nodes if self.limit is None else nodes[: self.limit]


def read(ray: Any) -> Capacity:
    """Return what the cluster that Ray is connected to has, and what may come.

    Raises:
        ConfigError: SISR_NODE_TYPES can't be understood.
    """
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    heads, others = [one for one in alive if HEAD in one], [one for one in alive if HEAD not in one]
    types, limit = _types()
    return Capacity(_plain(heads[0]) if heads else {}, tuple(map(_plain, others)), types, limit)


def can_grow() -> bool:
    """Return whether an autoscaler may add nodes."""
    return bool(_types()[0])


def _types() -> tuple[tuple[NodeType, ...], int | None]:
    """Return the kinds of node that may come, and how many of all kinds together."""
    stated, file = os.environ.get(NODE_TYPES), home() / LAUNCHER_FILE
    if stated:
        try:
            return tuple(_type(kind) for kind in json.loads(stated)), None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f'{NODE_TYPES} wants a list such as [{{"max_workers": 4, "resources": {{"CPU": 3, "GPU": 1}}}}], '
                f"got {stated!r}"
            ) from error
    if not file.is_file():
        return (), None
    config = read_yaml(file)
    found = []
    for kind in (config.get("available_node_types") or {}).values():
        # The launcher keeps all nodes of some kinds up, as it does machines of one's own: none may come, and their
        # resources are known from themselves, unless the configuration says them.
        are_up = not kind.get("resources") and kind.get("min_workers", 0) >= kind.get("max_workers", 0)
        if kind.get("max_workers") and not are_up:
            found.append(_type(kind))
    return tuple(found), int(config.get("max_workers", 0)) or None


def _type(kind: dict[str, Any]) -> NodeType:
    resources = kind.get("resources")
    return NodeType(int(kind["max_workers"]), _plain(resources) if resources else None)


def _plain(resources: dict[str, Any]) -> Resources:
    return {name: float(resources.get(name, 0.0)) for name in ("CPU", "GPU")}


def with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a cluster file with Ray's defaults filled in, as `ray up` would use them.

    Raises:
        RefusedError: They don't satisfy Ray's schema, or Ray can't use them for another reason.
    """
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            merged = dict(prepare_config(settings))
            validate_config(merged)
    except ValidationError as error:
        keys = [str(key) for key in error.absolute_path]
        problem = f"{'.'.join(keys) or 'the file'}: {error.message}"
        raise RefusedError(problem, "what Ray's schema of cluster files wants", keys) from None
    except (Exception, SystemExit) as error:  # Ray's own kinds, click's among them
        text = " ".join(f"{error} {printed.getvalue()}".split()) or type(error).__name__
        raise RefusedError(f"Ray refuses it: {text}", "see cluster.yaml for one that works") from None
    return merged


def _fits(nodes: Iterable[Resources], each: Resources) -> int:
    needed = {name: amount for name, amount in each.items() if amount > 0}
    return sum(min(math.floor(node.get(name, 0.0) / needed[name] + 1e-9) for name in needed) for node in nodes)
