"""Say which recipes there are: source, networks, settings, and what each costs and achieves.

Without a name, all recipes; with a name, that one and every setting that --set or a search space can change. A recipe
of your own is named by its file, my_recipe.py, or as a dotted module; its code is executed. --check builds it from
tiny() and tries what training, resuming and inference will ask of it.
Exit codes: 0 done, 2 no such recipe, or --check found something.
"""

import re
from typing import Annotated, Any

import typer

from sisr import recipes as registry
from sisr.config.settings import build, expected
from sisr.errors import ConfigError, SisrError
from sisr.pipelines._options import Json
from sisr.terminal import cli, console

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
    found = [describe(name) for name in ([recipe] if recipe else registry.names())]
    if json:
        console.print_json({"recipes": found})
        return
    for i, one in enumerate(found):
        _print(one, "\n" if i else "")
    if recipe:
        rows = [(row["name"], _written(row["default"]), row["wants"], row["meaning"]) for row in found[0]["settings"]]
        console.out.print()
        console.table("", ("setting", "default", "wants", "meaning"), rows)
    else:
        console.out.print("\n`sisr recipes NAME` lists a recipe's settings.", markup=False)


def _check(recipe: str, json: bool) -> None:
    """Print each promise of the contract, and how the recipe breaks it; raise ConfigError if it breaks one."""
    source = registry.find(recipe)
    module = registry.load(source.name, source.text, source.where)
    from sisr.training.contract import BrokenError, verdicts

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
    if json:
        console.print_json({"recipe": source.name, "checks": rows})
    if failed := sum(not row["ok"] for row in rows):
        raise ConfigError(f"{recipe} fails {failed} of {len(rows)} checks")


def describe(spec: str) -> dict[str, Any]:
    """Return what is known of the recipe `spec`, ready for JSON; raise ConfigError if it is none."""
    source = registry.find(spec)
    module = registry.load(source.name, source.text, source.where)
    config = build(module.Config, {}, source=source.where)
    defaults = config.model_dump(mode="json")
    summary, sections = read_docstring(module.__doc__ or "")
    return {
        "name": source.name,
        "summary": summary or "no docstring",
        "source": sections.get("Source"),
        "command": sections.get("Command"),
        "measured": sections.get("Measured"),
        "scale": config.scale,
        "parameters": count_parameters(module, config),
        "settings": [
            {"name": name, "default": defaults[name], "wants": expected(field), "meaning": field.description}
            for name, field in module.Config.model_fields.items()
        ],
    }


def read_docstring(doc: str) -> tuple[str, dict[str, str]]:
    """Return a recipe docstring's first line, and its paragraphs "Word: text" by word."""
    sections = {}
    for paragraph in re.split(r"\n\s*\n", doc.strip()):
        word, colon, text = paragraph.partition(":")
        if colon and word in ("Source", "Command", "Measured"):
            lines = [line.strip() for line in text.strip().splitlines()]
            sections[word] = ("\n" if word == "Command" else " ").join(lines)
    return doc.strip().partition("\n")[0], sections


def count_parameters(module: Any, config: Any) -> dict[str, int]:
    """Return the number of trainable values of every network of a recipe, by name.

    Feature networks are left out: nothing in them is trained, and their weights would be downloaded.
    """
    from torch import nn

    from sisr.recipe import build_recipe, parameter_count, parts_of

    if "perceptual" in module.Config.model_fields:
        config = config.model_copy(update={"perceptual": "none"})
    parts = parts_of(build_recipe(module, config))
    return {name: parameter_count(network) for name, network in parts.items() if isinstance(network, nn.Module)}


def _print(recipe: dict[str, Any], before: str) -> None:
    """Print what is known of a recipe, but for its settings."""
    networks = ", ".join(f"{name} {count:,}" for name, count in recipe["parameters"].items())
    rows = {"scale": f"{recipe['scale']}x", "parameters": networks}
    rows |= {label: recipe[label] for label in ("source", "command", "measured")}
    console.out.print(f"{before}[bold]{recipe['name']}[/bold]")
    console.out.print(f"  {recipe['summary']}", markup=False)
    for label, text in rows.items():
        indented = (text or "not stated").replace("\n", f"\n{'':<14}")
        console.out.print(f"  {label:<11} {indented}", markup=False)


def _written(value: Any) -> str:
    """Return a value as one writes it behind --set NAME=."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value).replace(", ", ",")


if __name__ == "__main__":
    cli.run(main)
