"""Measure a recipe's training speed side by side with a plain hand-written PyTorch loop of the same networks."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sisr import recipes
from sisr.config.settings import build, parse_overrides
from sisr.pipelines._options import Json
from sisr.terminal import cli
from sisr.terminal.console import print_json, table


def main(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, file or dotted module.")],
    data: Annotated[str, typer.Option(help="demo, a folder of images, celeba:PATH or div2k:PATH.")] = "demo",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One setting; repeatable.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="How to run.")] = None,
    blocks: Annotated[int, typer.Option(min=1, help="Counted turns of 10 steps for each loop.")] = 5,
    json: Json = False,
) -> None:
    """Measure a recipe's training speed."""
    from sisr.driver.run import execute
    from sisr.training import benchmark
    from sisr.training.run import Options

    recipes.find(recipe)
    steps = benchmark.steps_of(blocks)
    # No evaluation but the last, which is not timed; the first would only delay the start.
    options = {"evaluate_every": steps, "validation_side": 64, "log_every": benchmark.BLOCK}
    options |= parse_overrides(option or [], "--option")
    with tempfile.TemporaryDirectory() as folder:
        order = execute.Order(
            recipe=recipe,
            values={**parse_overrides(set_ or []), "steps": steps},
            options=build(Options, options, source="--option"),
            data=data,
            runs=Path(folder),
        )
        run, runs_folder, _ = execute.prepare(order)
        result = benchmark.race(run, runs_folder, blocks)
    if json:
        print_json(result)
        return
    shown = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in result.items()}
    table(f"{recipe}: medians of {blocks} turns of {benchmark.BLOCK} steps", ["figure", "value"], list(shown.items()))


if __name__ == "__main__":
    cli.run(main)
