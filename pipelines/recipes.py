"""Say which recipes there are: source, networks, settings, and what each costs and achieves.

Without a name, all recipes; with a name, that one and every setting that --set or a search space can change.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from sisr import console
from sisr import recipes as registry
from sisr.config import expected


def _names(incomplete: str) -> list[str]:
    return [name for name in registry.names() if name.startswith(incomplete)]


def main(
    recipe: Annotated[str | None, typer.Argument(help="A recipe's name.", autocompletion=_names)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print what recipes there are."""
    if recipe is not None:
        registry.check(recipe)
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


def describe(name: str) -> dict[str, Any]:
    """Return what is known of the recipe `name`, ready for JSON.

    Raises:
        ConfigError: No recipe has this name.
    """
    module = registry.load(name)
    config = module.Config()
    summary, sections = read_docstring(module.__doc__ or "")
    return {
        "name": name,
        "summary": summary,
        "source": sections.get("Source"),
        "command": sections.get("Command"),
        "measured": sections.get("Measured"),
        "scale": config.scale,
        "parameters": count_parameters(module.Recipe(without_downloads(config))),
        "settings": list(settings(config)),
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
    from sisr.cli import run

    run(main)
