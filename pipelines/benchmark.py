"""Measure training speed side by side with plain hand-written PyTorch loops of the same networks.

One recipe, all of them (--all), or a suite: `gpu` measures every recipe at its published size in several number
formats, with the share of what the device can do at best, within a few minutes.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from sisr import recipes
from sisr.config.settings import parse_overrides
from sisr.disk import atomic
from sisr.errors import ConfigError
from sisr.pipelines._options import Json
from sisr.terminal import cli
from sisr.terminal.console import note, print_json, table


def main(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe's name, file or dotted module.", autocompletion=recipes.names)
    ] = None,
    data: Annotated[str, typer.Option(help="demo, a folder of images, celeba:PATH or div2k:PATH.")] = "demo",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One setting; repeatable.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="How to run.")] = None,
    blocks: Annotated[int, typer.Option(min=1, help="Counted turns of 10 steps for each loop.")] = 5,
    against: Annotated[
        str, typer.Option(help="plain: loops written by hand. basicsr=FOLDER: a checkout of BasicSR, of one recipe.")
    ] = "plain",
    all_: Annotated[bool, typer.Option("--all", help="Every recipe: on a GPU at its published size.")] = False,
    suite: Annotated[str | None, typer.Option(help="gpu: published sizes, every number format. smoke: tiny.")] = None,
    minutes: Annotated[float, typer.Option(min=0, help="Of a suite, after which nothing more is begun.")] = 3.5,
    output: Annotated[Path | None, typer.Option(help="JSON file, written after each measurement.")] = None,
    json: Json = False,
) -> None:
    """Measure training speed."""
    if sum([recipe is not None, all_, suite is not None]) != 1:
        raise ConfigError("say one of: a recipe, --all, --suite NAME (and --output FILE for its JSON file)")
    if recipe is None and set_:
        raise ConfigError("--set is of one recipe: name it, or leave --set out")
    from sisr.driver import benchmark

    checkout = benchmark.basicsr_checkout(against)
    if checkout is not None and recipe is None:
        raise ConfigError("--against basicsr=FOLDER is of one recipe: name it")
    options = parse_overrides(option or [], "--option")

    def keep(result: dict[str, Any]) -> None:
        if output is not None:
            atomic.write_json(output, result)

    if suite is not None:
        if options:
            raise ConfigError("a suite has its own options: leave --option out")
        result = benchmark.run_suite(suite, minutes, keep)
    elif recipe is not None:
        recipes.find(recipe)
        case = benchmark.Case(recipe, "", parse_overrides(set_ or []), options)
        result = benchmark.measure(case, data, blocks, checkout=checkout)
    else:
        result = {"cases": []}
        for case in benchmark.all_recipes(options):
            note(f"measuring {case.recipe}")
            result["cases"].append(benchmark.measure(case, data, blocks))
            keep(result)
    keep(result)
    if json:
        print_json(result)
    elif recipe is not None:
        shown = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in result.items()}
        table(f"{recipe}: medians of {blocks} turns of 10 steps", ["figure", "value"], list(shown.items()))
    else:
        _show(result, benchmark.HEADER, list(benchmark.rows(result["cases"])))


def _show(result: dict[str, Any], header: list[str], rows: list[list[str]]) -> None:
    table(result.get("device", "All recipes"), header, rows)
    for name, value in result.get("peaks", {}).items():
        note(f"at best {value:.4g} {'GB/s copied' if name == 'copy_gb_s' else f'TFLOP/s in {name}'}")
    if left_out := result.get("left_out"):
        note(f"left out, for time: {', '.join(left_out)}; --minutes gives it more")


if __name__ == "__main__":
    cli.run(main)
