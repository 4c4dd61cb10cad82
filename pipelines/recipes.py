"""Say which recipes there are: source, networks, settings, and what each costs and achieves.

Without a name, all recipes; with a name, that one and every setting that --set or a search space can change. A recipe
of your own is named by its file, my_recipe.py, or as a dotted module; its code is executed. --check builds it from
tiny() and tries what training, resuming and inference will ask of it.
Exit codes: 0 done, 2 no such recipe, or --check found something.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from sisr import recipes as registry
from sisr.config.settings import expected
from sisr.terminal import console

RECIPE = "A recipe's name, the path of a recipe's file, or a dotted module."


def _names(incomplete: str) -> list[str]:
    return [name for name in registry.names() if name.startswith(incomplete)]


def main(
    recipe: Annotated[str | None, typer.Argument(help=RECIPE, autocompletion=_names)] = None,
    check: Annotated[bool, typer.Option("--check", help="Check that it keeps the contract of sisr.recipe.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print what recipes there are."""
    if recipe is not None:
        registry.find(recipe)
    if check:
        _check(recipe, json)
        return
    found = [describe(name) for name in ([recipe] if recipe else registry.names())]
    if json:
        console.print_json({"recipes": found})
        return
    for i, one in enumerate(found):
        _print(one, "\n" if i else "")
    if recipe:
        _print_settings(found[0]["settings"])
    else:
        console.out.print("\n`sisr recipes NAME` lists a recipe's settings.", markup=False)


def _check(recipe: str | None, json: bool) -> None:
    from sisr.errors import ConfigError
    from sisr.training.contract import verdicts

    if recipe is None:
        raise ConfigError("--check wants a recipe: its name, file or dotted module")
    source = registry.find(recipe)
    rows = []
    for what, error in verdicts(registry.load(source.name, source.text, source.where)):
        place = error and registry.blame(error, source.name, source.text)
        rows.append({"check": what, "ok": error is None, "problem": error and (place or _said(error))})
        if not json:
            console.out.print(f"{'ok  ' if error is None else 'FAIL'}  {what}", markup=False)
            if error:
                console.out.print(f"      {rows[-1]['problem']}", markup=False)
    failed = sum(not row["ok"] for row in rows)
    if json:
        console.print_json({"recipe": source.name, "checks": rows})
    if failed:
        raise ConfigError(f"{recipe} fails {failed} of {len(rows)} checks")


def _said(error: Exception) -> str:
    """Return an error's words, after its kind where they alone would say little."""
    from sisr.errors import SisrError
    from sisr.training.contract import BrokenError

    return str(error) if isinstance(error, BrokenError | SisrError) else f"{type(error).__name__}: {error}"


def describe(spec: str) -> dict[str, Any]:
    """Return what is known of the recipe `spec`, ready for JSON.

    Raises:
        ConfigError: There is no such recipe, or it can't be built.
    """
    source = registry.find(spec)
    module = registry.load(source.name, source.text, source.where)
    config = _default(module, source.where)
    summary, sections = read_docstring(module.__doc__ or "")
    return {
        "name": source.name,
        "summary": summary or "no docstring",
        "source": sections.get("Source"),
        "command": sections.get("Command"),
        "measured": sections.get("Measured"),
        "scale": config.scale,
        "parameters": count_parameters(module.Recipe(without_downloads(config))),
        "settings": list(settings(config)),
    }


def _default(module: Any, where: str) -> Any:
    from sisr.config.settings import build

    return build(module.Config, {}, source=where)


def read_docstring(doc: str) -> tuple[str, dict[str, str]]:
    """Return a recipe docstring's first line, and its paragraphs "Word: text" by word."""
    sections = {}
    for paragraph in re.split(r"\n\s*\n", doc.strip()):
        word, colon, text = paragraph.partition(":")
        if colon and word in ("Source", "Command", "Measured"):
            lines = [line.strip() for line in text.strip().splitlines()]
            sections[word] = ("\n" if word == "Command" else " ").join(lines)
    return doc.strip().partition("\n")[0], sections


def without_downloads(config: Any) -> Any:
    """Return a recipe's config with feature networks off: nothing in them is trained, and their weights are large."""
    return config.model_copy(update={"perceptual": "none"}) if "perceptual" in type(config).model_fields else config


def count_parameters(recipe: Any) -> dict[str, int]:
    """Return the number of trainable values of every network of a recipe, by name."""
    from torch import nn

    from sisr.recipe import parameter_count

    networks = {name: part for name, part in recipe.parts().items() if isinstance(part, nn.Module)}
    return {name: parameter_count(network) for name, network in networks.items()}


def settings(config: Any) -> Iterable[dict[str, Any]]:
    """Yield name, default, range and meaning of every field of a recipe's `Config`."""
    defaults = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        yield {
            "name": name,
            "default": defaults[name],
            "wants": expected(field),
            "meaning": field.description,
        }


def _print(recipe: dict[str, Any], before: str) -> None:
    networks = ", ".join(f"{name} {count:,}" for name, count in recipe["parameters"].items())
    rows = {
        "scale": f"{recipe['scale']}x",
        "parameters": networks,
        "source": recipe["source"],
        "command": recipe["command"],
        "measured": recipe["measured"],
    }
    console.out.print(f"{before}[bold]{recipe['name']}[/bold]")
    console.out.print(f"  {recipe['summary']}", markup=False)
    for label, text in rows.items():
        for i, line in enumerate((text or "not stated").splitlines()):
            console.out.print(f"  {label if i == 0 else '':<11} {line}", markup=False)


def _print_settings(rows: list[dict[str, Any]]) -> None:
    cells = [(row["name"], _written(row["default"]), row["wants"], row["meaning"]) for row in rows]
    console.out.print()
    console.table("", ("setting", "default", "wants", "meaning"), cells)


def _written(value: Any) -> str:
    """Return a value as one writes it behind --set NAME=."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value).replace(", ", ",")


if __name__ == "__main__":
    from sisr.terminal.cli import run

    run(main)
