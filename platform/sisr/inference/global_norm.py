"""Group normalisation of an image that is computed in tiles, with the statistics of the whole image.

A generator's forward pass is cut at each group normalisation: all tiles are computed up to it, their statistics are
combined, and all go on from where they were. Each layer is computed once.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, fx

from sisr.errors import DataError
from sisr.inference.moments import GROUP_NORM, Moments
from sisr.inference.parking import Level, Parked, Parking
from sisr.inference.tiles import Tile
from sisr.recipe import Generator

Values = dict[fx.Node, Any]  # what is known of a tile: all that later layers need


class Stages:
    """A generator's forward pass for tiles of one shape, in stages that each begin with a group normalisation.

    Args:
        generator: In evaluation mode.
        lr: A tile; its values don't matter.

    Raises:
        DataError: What the generator does depends on the values that it is given.
    """

    def __init__(self, generator: Generator, lr: Tensor) -> None:
        module = _traced(generator, lr)
        self._stages: list[list[fx.Node]] = [[]]
        self._constants: Values = {}
        for node in module.graph.nodes:
            if node.op == "get_attr":
                self._constants[node] = _attribute(module, str(node.target))
            elif node.op == "placeholder":
                self._lr = node
            elif node.op == "output":
                self._output = node.args[0]
            else:
                self._stages += [[]] if node.target == GROUP_NORM else []
                self._stages[-1].append(node)
        self._dead = _last_uses(module.graph)

    @property
    def num_norms(self) -> int:
        """Calls of group normalisation."""
        return len(self._stages) - 1

    def begin(self, lr: Tensor) -> Values:
        """Return what is known of a tile before the first stage."""
        return {self._lr: lr}

    def advance(self, stage: int, values: Values, moments: Moments | None) -> None:
        """Compute a stage of a tile, in place; `moments`, for all but the first, are those that it begins with."""
        for node in self._stages[stage]:
            args, kwargs = self._arguments(node, values)
            if node.target == GROUP_NORM:
                assert moments is not None
                values[node] = (moments.normalised(args[0], args[1], args[2], args[7]), None, None)
            else:
                assert callable(node.target)
                values[node] = node.target(*args, **kwargs)
            del args, kwargs
            for dead in self._dead.get(node, ()):
                values.pop(dead, None)

    def moments(self, stage: int, values: Values, core_of: Callable[[Tensor], Tensor]) -> Moments:
        """Return a tile's part in the statistics of the group normalisation behind a stage.

        `core_of` cuts the tile's core out of its features.
        """
        args, _ = self._arguments(self._stages[stage + 1][0], values)
        return Moments.of(core_of(args[0]), args[6])

    def sr(self, values: Values) -> Tensor:
        """Return what became of a tile after the last stage."""
        result: Tensor = self._value(self._output, values)
        return result

    def _arguments(self, node: fx.Node, values: Values) -> Any:
        return fx.node.map_arg((node.args, node.kwargs), lambda needed: self._value(needed, values))

    def _value(self, node: Any, values: Values) -> Any:
        return self._constants[node] if node in self._constants else values[node]


class StagedTiles:
    """Tiles of one image whose group normalisations use the statistics of the whole image.

    Args:
        generator: In evaluation mode.
        tiles: Their cores make up the image.
        read: Gives the lr of a tile.
        levels: Memory in which features may wait, best first.
    """

    def __init__(
        self, generator: Generator, tiles: Sequence[Tile], read: Callable[[Tile], Tensor], levels: list[Level]
    ) -> None:
        self._generator, self._tiles, self._read = generator, tiles, read
        self._stages: dict[tuple[int, int], Stages] = {}  # by the shape of a tile: most often there is one
        self._parking = Parking(levels)
        self._parked: dict[Tile, Parked] = {}
        self._moments: Moments | None = None

    def __enter__(self) -> Self:
        self._parking.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._parking.__exit__(*error)

    @torch.inference_mode()
    def collect(self, on_pass: Callable[[], None]) -> None:
        """Compute all tiles up to the last group normalisation; `on_pass` is called after each stage of each."""
        stage, num_norms = 0, 1
        while stage < num_norms:
            found: Moments | None = None
            for tile in self._tiles:
                stages, values = self._advanced(stage, tile)
                num_norms = stages.num_norms
                moments = stages.moments(stage, values, tile.core_of)
                found = moments if found is None else found.merged(moments)
                self._parked[tile] = self._parking.put(values)
                on_pass()
            self._moments = found
            stage += 1
        self._num_norms = num_norms

    @torch.inference_mode()
    def sr(self, tile: Tile) -> Tensor:
        """Return sr of a tile's outer rectangle, after `collect`; once for each tile."""
        stages, values = self._advanced(self._num_norms, tile)
        return stages.sr(values)

    def _advanced(self, stage: int, tile: Tile) -> tuple[Stages, Values]:
        if stage:
            stages, values = self._stages[tile.outer], self._parking.take(self._parked[tile])
        else:
            lr = self._read(tile)
            if tile.outer not in self._stages:
                self._stages[tile.outer] = Stages(self._generator, lr)
            stages = self._stages[tile.outer]
            values = stages.begin(lr)
        stages.advance(stage, values, self._moments)
        return stages, values


def _traced(generator: Generator, lr: Tensor) -> fx.GraphModule:
    """Return the forward pass as a graph of torch's own operations, none of which changes an argument."""
    from torch.fx.experimental.proxy_tensor import make_fx  # slow to import, and seldom needed

    with torch.inference_mode(False), torch.no_grad():
        example = torch.empty_like(lr)
        trace = partial(make_fx, tracing_mode="fake", _allow_non_fake_inputs=True)
        try:
            module = trace(lambda lr: generator(lr))(example)
            if any(_mutates(node) for node in module.graph.nodes):
                # What was parked is a copy, which no view sees changed.
                module = trace(torch.func.functionalize(lambda lr: generator(lr)))(example)
        except (RuntimeError, TypeError, NotImplementedError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise DataError(
                f"this generator's group normalisation can't be computed in tiles ({reason:.200}); "
                "--tile 0 computes the image in one piece"
            ) from error
    return module


def _mutates(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _last_uses(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """Return the nodes that nobody needs after each node."""
    found: dict[fx.Node, list[fx.Node]] = {}
    seen: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        needed = [each for each in (node, *node.all_input_nodes) if each not in seen]
        seen.update(needed)
        found[node] = needed if node.op == "call_function" else []
    return found


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module
