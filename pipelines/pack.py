"""Prepare images for training: examine every file, decode it once, and say what can't be used and why.

`sisr train` does the same on first use; packing ahead shows the verdicts and moves the wait. With --publish, the packed
images also go to object storage: `sisr train --data s3://BUCKET/PHOTOS` fetches them once to each machine that trains.
Exit codes: 0 done, 3 too many files can't be used or the storage can't be reached, 73 the cache can't be written.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sisr.data.sources.source import Source
    from sisr.data.store import Store

PUBLISH = "Put them there, too: s3://BUCKET/PATH, gs://BUCKET/PATH or file:///PATH; then a name for --data."


def main(
    data: Annotated[str, typer.Argument(help="demo, a folder of images, celeba:PATH or div2k:PATH.")],
    validation: Annotated[str | None, typer.Option(help="Folder of held-out images; default: split from DATA.")] = None,
    publish: Annotated[str | None, typer.Option(metavar="ADDRESS", help=PUBLISH)] = None,
    cache: Annotated[Path | None, typer.Option(help="Default: $SISR_CACHE, else ~/.cache/sisr.")] = None,
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="Refused files, as a fraction, that stop it.")] = 0.01,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Examine and decode images once, for training."""
    from sisr.data.packing import pack
    from sisr.data.sources.catalogue import open_source
    from sisr.terminal import console

    source = open_source(data, validation)
    with console.progress(f"packing {source.name}", len(source.files)) as advance:
        store = pack(source.files, cache, lambda done, total: advance(), max_bad_fraction=max_bad)
    report = describe(source, store)
    if publish:
        _publish(source, store, publish)
        report["published"] = publish
    if json:
        console.print_json(report)
        return
    console.table(
        "",
        ("packed", source.name),
        [(key.replace("_", " "), _written(value)) for key, value in list(report.items())[1:]],
    )


def _publish(source: "Source", store: "Store", address: str) -> None:
    from sisr.data.sources import published
    from sisr.terminal.console import progress

    train, held_out = ([file.name for file in files] for files in (source.train, source.validation))
    with progress(f"publishing {source.name} (MB)", store.nbytes // published.MEGABYTE) as advance:
        published.publish(store, source.name, train, held_out, address, published.in_megabytes(advance))


def describe(source: "Source", store: "Store") -> dict[str, Any]:
    """Return what is known of a packed source, ready for JSON."""
    from sisr.data.index import printable

    shapes = store.shapes
    return {
        "source": source.name,
        "files": len(source.files),
        "train": len(store.subset(file.name for file in source.train)),
        "held_out": len(store.subset(file.name for file in source.validation)),
        "narrowest_px": int(shapes[:, 2].min()),
        "lowest_px": int(shapes[:, 1].min()),
        "converted": store.index.notes(),
        "refused": {printable(name): f"{v.kind}: {v.detail}" for name, v in store.index.refused.items()},
        "fingerprint": store.fingerprint,
        "pixels_mb": round(store.nbytes / 1e6, 1),
        "folder": str(store.folder),
    }


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {what}" for key, what in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    from sisr.terminal.cli import run

    run(main)
