"""Write a model as one file for other programs: safetensors, PyTorch's pt2, or ONNX.

safetensors holds the weights, by the network's own names, with the recipe and its settings; beside it lies a JSON of
what OpenModelDB asks of a model. pt2 (`torch.export.load`) and ONNX hold the computation:
lr as float32 (n, 3, height, width) in [0, 1], any number of images of any size (multiples of what the network wants),
to sr, not clamped. What was written is read back and compared with the model on three sizes before it is put in place.
ONNX needs the extra packages of `sisr[export]`.
Exit codes: 0 done, 2 a wrong option or a missing package, 4 no such model, or one that can't be written so,
69 MLflow does not answer, 73 can't write.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sisr.disk import atomic
from sisr.driver import models
from sisr.errors import ConfigError
from sisr.pipelines._completion import model_names
from sisr.pipelines._options import Json, Recipes, Runs
from sisr.terminal import cli, console

FORMATS = ("safetensors", "pt2", "onnx")
FORMAT = "safetensors, pt2 or onnx. Default: as the file's name ends."
LICENCE = "Of a safetensors file's JSON: an SPDX expression such as CC-BY-4.0."
OUTPUT = "File to write. Default: NAME.FORMAT in the current folder."


def main(
    model: Annotated[str, typer.Argument(help=models.HELP, autocompletion=model_names)],
    format_: Annotated[str | None, typer.Option("--format", help=FORMAT)] = None,
    output: Annotated[Path | None, typer.Option("--output", "--out", "-o", help=OUTPUT)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "--force", help="Replace a file that is there.")] = False,
    licence: Annotated[str | None, typer.Option("--license", "--licence", help=LICENCE)] = None,
    author: Annotated[str | None, typer.Option(help="Of a safetensors file's JSON.")] = None,
    recipe: Recipes = None,
    runs: Runs = Path("runs"),
    json: Json = False,
) -> None:
    """Export a model."""
    from sisr.models import open_model_db
    from sisr.models.export import export, require

    chosen = _format(format_, output, models.short(model))
    target = output or Path(f"{models.short(model)}.{chosen}")
    if target.is_dir():
        raise ConfigError(f"--output {target} is a folder; name a file, such as {target / f'model.{chosen}'}")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists already; --overwrite replaces it, --output writes elsewhere")
    card = target.with_suffix(".json") if chosen == "safetensors" else None
    if card is None and (licence or author):
        raise ConfigError("--license and --author have no effect but with --format safetensors, which has a JSON")
    if card and card.exists() and not overwrite:
        raise ConfigError(f"{card} exists already; --overwrite replaces it, --output writes elsewhere")
    require(chosen)
    opened = models.open_model(model, runs, None, "cpu", recipe or [])
    begun = time.monotonic()
    checks = export(opened, target, chosen)
    if card:
        atomic.write_json(card, open_model_db.described(opened, target, licence, author))
    size, seconds = target.stat().st_size, round(time.monotonic() - begun, 2)
    if json:
        shown = {"model": model, "format": chosen, "output": str(target), "bytes": size, "scale": opened.scale}
        shown |= {"card": str(card)} if card else {}
        console.print_json({**shown, "seconds": seconds, "checks": [asdict(check) for check in checks]})
        return
    console.out.print(f"{target}: {chosen}, {size / 1e6:.2f} MB, {seconds} s", markup=False)
    if card:
        missing = "" if licence else "; its licence is missing: --license"
        console.out.print(f"{card}: what OpenModelDB asks{missing}", markup=False)
    for check in checks:
        n, _, height, width = check.shape
        what = f"{n} image{'s' if n > 1 else ''} of {width}x{height} px"
        console.out.print(f"  {what}: differs from the model by at most {check.largest:.2g}", markup=False)


def _format(asked: str | None, output: Path | None, model: str) -> str:
    """Return the format that the options ask for; raise ConfigError if they name none, or contradict each other."""
    suffix = output.suffix.lower().removeprefix(".") if output else ""
    chosen = asked or suffix
    if chosen not in FORMATS:
        if asked or output:
            given = f"--format {asked}" if asked else f"--output {output}"
            raise ConfigError(f"{given} names no format; choose --format {', '.join(FORMATS)}")
        raise ConfigError(
            f"which format? --format {', '.join(FORMATS)}; or name a file that ends so: --output {model}.{FORMATS[0]}"
        )
    if suffix in FORMATS and suffix != chosen:
        raise ConfigError(f"--output {output} and --format {chosen} contradict each other; leave one out")
    return chosen


if __name__ == "__main__":
    cli.run(main)
