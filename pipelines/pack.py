"""Prepare images for training: examine every file, decode it once, and say what can't be used and why.

`sisr train` does the same on first use; packing ahead shows the verdicts and moves the wait. With --publish, the packed
images also go to object storage: `sisr train --data s3://BUCKET/PHOTOS` fetches them once to each machine that trains.
Exit codes: 0 done, 3 too many files can't be used or the storage can't be reached, 73 the cache can't be written.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from sisr.data.sources import ACCEPTED
from sisr.driver import next_steps
from sisr.pipelines._options import HELD_OUT, Json
from sisr.terminal import cli, console

PUBLISH = "Put them there, too: s3://BUCKET/PATH, gs://BUCKET/PATH or file:///PATH; then a name for --data."


def main(
    data: Annotated[str, typer.Argument(help=f"{ACCEPTED}.")],
    validation: Annotated[str | None, typer.Option(help=HELD_OUT)] = None,
    publish: Annotated[str | None, typer.Option(metavar="ADDRESS", help=PUBLISH)] = None,
    cache: Annotated[Path | None, typer.Option(help="Default: $SISR_CACHE, else ~/.cache/sisr.")] = None,
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="Refused files, as a fraction, that stop it.")] = 0.01,
    json: Json = False,
) -> None:
    """Examine and decode images once, for training."""
    from sisr.data.packing import pack, report
    from sisr.data.sources import published
    from sisr.data.sources.catalogue import open_source

    source = open_source(data, validation)
    with console.progress(f"packing {source.name}", len(source.files)) as advance:
        store = pack(source.files, cache, advance, max_bad_fraction=max_bad)
    packed = report(source, store)
    if publish:
        train, held_out = ([file.name for file in files] for files in (source.train, source.validation))
        with console.progress(f"publishing {source.name} (MB)", store.nbytes // published.MEGABYTE) as advance:
            published.publish(store, source.name, train, held_out, publish, published.in_megabytes(advance))
        packed["published"] = publish
    if json:
        console.print_json(packed)
    else:
        rows = [(key.replace("_", " "), _cell(value)) for key, value in list(packed.items())[1:]]
        console.table("", ("packed", source.name), rows)
        next_steps.show(next_steps.after_packing(publish or data, None if publish else validation))


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {what}" for key, what in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    cli.run(main)
