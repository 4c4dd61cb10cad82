"""Examine what a run needs before it starts: this machine, a folder of images, or a file that starts a cluster.

Without an argument, this machine: Python, libraries, GPUs, memory, disk, Ray's token, MLflow. With a folder, each of
its images, as training would judge it, and which bicubic made the low-resolution ones where it holds pairs. With a
YAML file of Ray's cluster launcher, what is not filled in, what Ray refuses, and what would be unsafe.
Exit codes: 0 nothing is wrong, 2 the machine or the cluster file, 3 the images.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sisr.data.images import Verdict
    from sisr.data.index import Index
    from sisr.data.reading import ImageFile
    from sisr.doctor.diagnosis import Finding

PAIRS_COMPARED = 8


def main(
    subject: Annotated[
        str | None, typer.Argument(help="A cluster file, a folder of images or another source; default: this machine.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where runs would be written.")] = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow server; default: MLFLOW_TRACKING_URI, else SQLite.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Examine SUBJECT and say what is wrong, and what would be right."""
    from sisr.doctor import diagnosis
    from sisr.errors import ConfigError, DataError
    from sisr.terminal import console

    is_cluster = subject is not None and Path(subject).suffix in (".yaml", ".yml")
    if subject is None:
        findings = machine(runs, tracking_uri)
    else:
        findings = cluster(Path(subject)) if is_cluster else images(subject)
    wrong = diagnosis.errors(findings)
    if json:
        console.print_json({"subject": subject, "findings": [asdict(one) for one in findings]})
    else:
        console.table("", ("", "what", "found", "what to do"), [(f.level, f.what, f.found, f.remedy) for f in findings])
    if wrong:
        kind = ConfigError if subject is None or is_cluster else DataError
        more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise kind(f"{wrong[0].what}: {wrong[0].found}{more}")


def machine(runs: Path, tracking_uri: str | None) -> "list[Finding]":
    """Return what was found on this machine."""
    from sisr.disk import cache
    from sisr.doctor import machine as examined

    return [*examined.examine(runs, cache.folder()), tracking(runs, tracking_uri)]


def tracking(runs: Path, tracking_uri: str | None) -> "Finding":
    """Return whether MLflow's server answers; a SQLite file needs none."""
    from sisr.doctor.diagnosis import Finding
    from sisr.errors import TrackingError
    from sisr.tracking import address, courier
    from sisr.tracking.redact import redact_text

    try:
        uri = address.decide(runs / "new", tracking_uri).tracking_uri
        if not uri.startswith("sqlite:"):
            courier.require(uri)
    except TrackingError as error:
        return Finding("error", "mlflow", str(error), "start it, or correct MLFLOW_TRACKING_URI; runs start without it")
    return Finding("ok", "mlflow", redact_text(uri))


def cluster(path: Path) -> "list[Finding]":
    """Return what was found in a cluster file, and which code its nodes would get."""
    from sisr.cluster.launcher import with_defaults
    from sisr.doctor import cluster_file
    from sisr.doctor import machine as examined

    return [*cluster_file.examine(path, with_defaults), examined.code(), examined.stamp()]


def images(spec: str) -> "list[Finding]":
    """Return what training would accept and refuse of a source, and how its low-resolution images were made."""
    from sisr.data.index import Index
    from sisr.data.reading import read_all
    from sisr.data.sources.catalogue import open_source
    from sisr.doctor.diagnosis import Finding
    from sisr.errors import DataError
    from sisr.terminal.console import progress

    source = open_source(spec)
    verdicts = []
    with progress(f"examining {source.name}", len(source.files)) as advance:
        for file, (verdict, _) in zip(source.files, read_all(source.files, lambda file: None), strict=True):
            verdicts.append((file.name, verdict))
            advance()
    index = Index.of(verdicts)
    findings = [*refusals(index.refused), *summary(index)]
    try:
        index.check(spec)
    except DataError as error:
        findings.insert(0, Finding("error", spec, str(error).partition("\n")[0], "remove them, or make them anew"))
    return findings + pairs({file.name: file for file in source.files}, index)


def refusals(refused: "Mapping[str, Verdict]") -> "Iterator[Finding]":
    """Yield the first of the files that can't be used."""
    from sisr.data.index import NAMED, printable
    from sisr.doctor.diagnosis import Finding

    for name, verdict in list(refused.items())[:NAMED]:
        yield Finding("warning", printable(name), f"{verdict.kind}: {verdict.detail}", "left out of training")
    if len(refused) > NAMED:
        yield Finding("warning", "others", f"{len(refused) - NAMED} more files can't be used", "left out of training")


def summary(index: "Index") -> "Iterator[Finding]":
    """Yield how many images are good, how large they are, and what becomes of the unusual ones."""
    from sisr.doctor.diagnosis import Finding

    good = [verdict for name, verdict in index.verdicts.items() if verdict.kind is None]
    yield Finding("ok", "images", f"{len(good):,} of {len(index.verdicts):,} can be used")
    if good:
        narrow, wide = (choose(min(v.width, v.height) for v in good) for choose in (min, max))
        yield Finding("ok", "shorter sides", f"{narrow} to {wide} px; a training window must fit into them")
    for note, count in index.notes().items():
        yield Finding("ok", "converted", f"{count:,}: {note}")
    copies = len(good) - len({verdict.sha256 for verdict in good})
    if copies:
        found = f"{copies:,} images are there twice, and may be trained on and held out at once"
        yield Finding("warning", "copies", found, "remove the copies")


def pairs(files: "Mapping[str, ImageFile]", index: "Index") -> "list[Finding]":
    """Return what made the low-resolution images of a folder that holds them beside their originals, else nothing."""
    from sisr.data.pairs import UNRELATED, by_folder, find_pairs, made_by
    from sisr.doctor.diagnosis import Finding

    sizes = {name: (index.verdicts[name].width, index.verdicts[name].height) for name in index.good}
    paths = {name: file.path for name, file in files.items()}
    remedy = "train on the originals alone: low resolution is made while training, as the recipe says"
    findings = []
    for (folder, scale), group in by_folder(find_pairs(sizes)).items():
        kernel, means = made_by(group[:PAIRS_COMPARED], paths)
        nearest, distance = min(means.items(), key=lambda item: item[1])
        if distance < UNRELATED:
            how = kernel or f"no kernel that is known; the nearest, {nearest}, is {distance:.1f} grey levels away"
            text = f"{len(group):,} pairs x{scale}; low resolution made by: {how}"
            findings.append(Finding("warning", folder, text, remedy))
    return findings


if __name__ == "__main__":
    from sisr.terminal.cli import run

    run(main)
