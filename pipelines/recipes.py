"""Say which recipes there are: source, networks, settings, and what each costs and achieves.

Without a name, all recipes in short; with a name, where that one comes from, what it has achieved, every setting that
--set or a search space can change, and its presets. A recipe of your own is named by its file, my_recipe.py, or as a
dotted module; its code is executed. --check builds it from tiny() and tries what training, resuming and inference will
ask of it.
Exit codes: 0 done, 2 no such recipe, or --check found something.
"""

from typing import Annotated, Any

import typer

from sisr import recipes as registry
from sisr.driver.recipe_facts import facts
from sisr.errors import ConfigError, SisrError
from sisr.pipelines._options import Json, written
from sisr.terminal import cli, console

READS = (
    "a step reads a number back {:.3g} times: a GPU stands still at each. Give Adam fused=True, and leave .item(), "
    "float() and `if` with tensors out of train_step"
)
RECIPE = "A recipe's name, the path of a recipe's file, or a dotted module."


def main(
    recipe: Annotated[str | None, typer.Argument(help=RECIPE, autocompletion=registry.names)] = None,
    check: Annotated[bool, typer.Option("--check", help="Check that it keeps the contract of sisr.recipe.")] = False,
    json: Json = False,
) -> None:
    """Print what recipes there are."""
    if check:
        if recipe is None:
            raise ConfigError("--check needs a recipe: its name, file or dotted module")
        _check(recipe, json)
        return
    found = [facts(name) for name in ([recipe] if recipe else registry.names())]
    if json:
        console.print_json({"recipes": found})
        return
    if recipe:
        _print(found[0])
        rows = [(row["name"], written(row["default"]), row["wants"], row["meaning"]) for row in found[0]["settings"]]
        console.out.print()
        console.table("", ("setting", "default", "wants", "meaning"), rows)
        _print_presets(found[0]["presets"])
        console.out.print("\n`sisr options` lists what --option takes.", markup=False)
    else:
        for one in found:
            _print_short(one)
        console.write("`sisr recipes NAME` has a recipe's source, results, settings, and what its presets set.")


def _check(recipe: str, json: bool) -> None:
    """Print each promise of the contract, and how the recipe breaks it; raise ConfigError if it breaks one."""
    source = registry.find(recipe)
    module = registry.load(source.name, source.text, source.where)
    from sisr.training.contract import BrokenError, reads_per_step, verdicts

    rows = []
    for what, error in verdicts(module):
        place = error and registry.place_of(error, source.name, source.text)
        is_clear = isinstance(error, BrokenError | SisrError)
        problem = error and (place or (str(error) if is_clear else f"{type(error).__name__}: {error}"))
        rows.append({"check": what, "ok": error is None, "problem": problem})
        if not json:
            console.out.print(f"{'FAIL' if error else 'ok  '}  {what}", markup=False)
            if error:
                console.out.print(f"      {problem}", markup=False)
    failed = sum(not row["ok"] for row in rows)
    reads = None if failed else reads_per_step(module)
    if json:
        console.print_json({"recipe": source.name, "checks": rows, "reads_per_step": reads})
    elif reads:
        console.out.print(f"note  {READS.format(reads)}", markup=False)
    if failed:
        raise ConfigError(f"{recipe} fails {failed} of {len(rows)} checks")


def _print_presets(presets: list[dict[str, Any]]) -> None:
    """Print each preset with what it sets."""
    for i, preset in enumerate(presets):
        sets = [f"{name}={written(value)}" for name, value in preset["settings"].items()]
        sets += [f"--option {name}={written(value)}" for name, value in preset["options"].items()]
        console.write(f"{'' if i else chr(10)}--preset {preset['name']}: {preset['about']}")
        console.write(f"    {' '.join(sets) or 'the defaults'}", hanging=0)


def _print_short(recipe: dict[str, Any]) -> None:
    """Print what a recipe is, its size and the names of its presets."""
    console.out.print(f"[bold]{recipe['name']}[/bold]")
    console.write(f"  {recipe['summary']}", hanging=0)
    presets = ", ".join(preset["name"] for preset in recipe["presets"])
    console.write(f"  {_networks(recipe)}" + (f"; --preset {presets}" if presets else "") + "\n", hanging=0)


def _print(recipe: dict[str, Any]) -> None:
    """Print what is known of a recipe, but for its settings and presets."""
    rows = {"scale": f"{recipe['scale']}x", "parameters": _networks(recipe)}
    rows |= {label: recipe[label] for label in ("source", "command", "measured")}
    console.out.print(f"[bold]{recipe['name']}[/bold]")
    console.write(f"  {recipe['summary']}", hanging=0)
    for label, text in rows.items():
        indented = (text or "not stated").replace("\n", f"\n{'':<14}")
        console.write(f"  {label:<11} {indented}", hanging=0 if label == "command" else 12)


def _networks(recipe: dict[str, Any]) -> str:
    """Return the names of a recipe's networks with their numbers of parameters; or why they can't be counted."""
    return ", ".join(f"{name} {count:,}" for name, count in recipe["parameters"].items()) or str(recipe["missing"])


if __name__ == "__main__":
    cli.run(main)
