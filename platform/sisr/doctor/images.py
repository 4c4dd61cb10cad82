"""Whether a source's images can be trained on: each examined as training would, its packed copy, and pairs in it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sisr.config.wording import printable
from sisr.data import outputs, packing
from sisr.data.images import decode
from sisr.data.index import MAX_BAD_FRACTION, NAMED, Index
from sisr.data.packing import read_all
from sisr.data.pairs import are_plain, find_paired, scale_of, size_of
from sisr.data.sources import ImageFile, by_name, published
from sisr.data.sources.catalogue import open_source
from sisr.data.sources.pairs import the_other_way_round
from sisr.data.store import DamagedStoreError, Store
from sisr.doctor import Diagnosis, Level
from sisr.doctor.pairs import PairFiles, alignment, kernel
from sisr.errors import DataError
from sisr.storage.address import is_address
from sisr.terminal.console import progress


def examine(spec: str) -> list[Diagnosis]:
    """Return what training would accept and refuse of a source, and how its low-resolution images were made.

    Of a published source, only whether the copy on this machine is what was published.

    Raises:
        DataError: There is no such source.
    """
    if is_address(spec):
        manifest = published.read(spec)
        count = f"{len(manifest.train):,} images to train on, {len(manifest.held_out):,} held out"
        return [Diagnosis("ok", "published", count), *_packed(published.place(manifest))]
    source = open_source(spec)
    files = sorted({file.name: file for file in (*source.files, *source.held_out)}.values(), key=by_name)
    verdicts, given = [], []
    with progress(f"examining {source.name}", len(files)) as advance:
        for file, (verdict, images) in zip(files, read_all(files, lambda file: None), strict=True):
            verdicts.append((file.name, verdict))
            if file.lr and images:
                hr, lr = map(size_of, images)
                given.append(PairFiles(file.lr, file.path, scale_of(lr, hr) or 0))
            advance()
    index = Index.of(verdicts)
    pairs = _given(given) if given else _mixed(spec, files, index)
    diagnoses = [*_summary(index), *_packed(packing.place(source.files)), *pairs]
    try:
        index.check(spec, MAX_BAD_FRACTION)
    except DataError as error:
        remedy = "remove them, or make them anew"
        if len(index.refused) < len(index.verdicts):
            remedy = f"remove them, make them anew, or leave them out: train --max-bad {index.share_refused():g}"
        remedy = the_other_way_round(files, index) or remedy
        found = str(error).partition("\n")[0].removeprefix(f"{spec}: ")
        diagnoses.insert(0, Diagnosis("error", printable(spec), found, remedy))
    return diagnoses


def _summary(index: Index) -> Iterator[Diagnosis]:
    """Yield the first files that can't be used, how many can, how large they are, and what becomes of unusual ones."""
    for name, verdict in list(index.refused.items())[:NAMED]:
        yield Diagnosis("warning", printable(name), f"{verdict.kind}: {verdict.detail}", "left out of training")
    if (more := len(index.refused) - NAMED) > 0:
        yield Diagnosis("warning", "others", f"{more} more files can't be used", "left out of training")
    good = [verdict for verdict in index.verdicts.values() if verdict.kind is None]
    yield Diagnosis("ok", "images", f"{len(good):,} of {len(index.verdicts):,} can be used")
    if good:
        narrow, wide = (choose(min(v.width, v.height) for v in good) for choose in (min, max))
        yield Diagnosis("ok", "shorter sides", f"{narrow} to {wide} px; a training window must fit into them")
    for note, count in index.notes().items():
        yield Diagnosis("ok", "converted", f"{count:,}: {note}")
    copies = len(good) - len({verdict.sha256 for verdict in good})
    if copies:
        found = f"{copies:,} image{'s are' if copies > 1 else ' is'} there twice, and may be trained on and held out"
        yield Diagnosis("warning", "copies", found, "remove the copies")


def _packed(folder: Path) -> Iterator[Diagnosis]:
    """Yield whether all pixels of the packed images, where there are some, are what was packed."""
    if not folder.is_dir():
        return
    try:
        store = Store(folder)
        store.check()
    except DamagedStoreError as error:
        yield Diagnosis("warning", "packed", str(error), "nothing: the next run replaces them")
    else:
        yield Diagnosis("ok", "packed", f"{store.nbytes / 1e6:,.1f} MB in {folder}, as they were packed")


def _given(pairs: Sequence[PairFiles]) -> Iterator[Diagnosis]:
    """Yield the scales of pairs, what made their lr, and whether it lies at the same place as hr."""
    scales = Counter(pair.scale for pair in pairs)
    text = ", ".join(f"{count:,} x{scale}" for scale, count in scales.most_common())
    found = f"{text}; low resolution made by: {kernel(pairs)}"
    remedy = "a recipe has one scale: give those of another apart" if len(scales) > 1 else ""
    yield Diagnosis("warning" if len(scales) > 1 else "ok", "pairs", found, remedy)
    yield from alignment(pairs)


def _mixed(spec: str, files: Sequence[ImageFile], index: Index) -> Iterator[Diagnosis]:
    """Yield the same of a folder that holds low resolution beside originals, as if both were, and which files lack."""
    paths = {file.name: file.path for file in files}
    sizes = {name: (index.verdicts[name].width, index.verdicts[name].height) for name in index.good}
    folders = find_paired(index.good, sizes.get, lambda name: decode(paths[name]))
    level: Level = "error" if are_plain(folders, len(index.good)) else "warning"  # as training refuses it
    for found in folders:
        pairs = [PairFiles(paths[pair.lr], paths[pair.hr], pair.scale) for pair in found.pairs]
        if found.are_enlarged:
            continue
        text = f"{len(found.pairs):,} pairs x{found.scale}; low resolution made by: {kernel(pairs)}"
        yield Diagnosis(level, printable(found.folder), text, printable(found.remedy(spec)))
        yield from alignment(pairs)
        for fault in found.faults[:NAMED]:
            yield Diagnosis("warning", "pairs", printable(fault), "give it the right name and size, or remove it")
        if len(found.faults) > NAMED:
            yield Diagnosis("warning", "pairs", f"{len(found.faults) - NAMED} more have no partner")
    small = {pair.lr for found in folders for pair in found.pairs if not found.are_enlarged}  # whatever they are called
    if made := [name for name in outputs.among(index.good) if name not in small]:
        named = ", ".join(made[:NAMED]) + (", ..." if len(made) > NAMED else "")
        text = f"{len(made):,} of {len(index.good):,} images: {named}"
        yield Diagnosis(level, "enlarged", printable(text), outputs.REMEDY.format("it" if len(made) == 1 else "them"))
