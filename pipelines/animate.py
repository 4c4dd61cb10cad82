"""Show how a run's output evolved: an animation of its sample pictures, one frame for each evaluation.

The pictures are those that training kept, of held-out images that chance chose. Below them stand the step and its
PSNR-Y and SSIM-Y over all held-out images, as training measured them, beside bicubic's. WebP is lossless where that
fits; what had to be given up for --max-mb is said. MP4 needs the extra sisr[video].
Exit codes: 0 done, 2 a wrong option or no such run, 3 too few or damaged pictures, 4 a damaged record, 73 can't write.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from sisr.disk import atomic
from sisr.disk.run_folder import RECORD, RunFolder
from sisr.errors import ConfigError, DiskError, RunLockedError
from sisr.evaluation import samples
from sisr.pictures import animation_files as files
from sisr.pictures.animation import Artist
from sisr.pictures.contact_sheet import size
from sisr.pipelines._completion import run_names
from sisr.pipelines._options import Json, Runs, folder_of
from sisr.terminal import cli, console
from sisr.tracking.outbox import Outbox

OUTPUT = "File to write: .webp, .gif or .mp4. Default: evolution.webp in the run's folder. An older one is replaced."
ROWS = "Rows of the sample pictures to show, counted from 1, as in 1,3. Default: all."
STEPS = "FIRST:LAST:EVERY, each may be missing: only pictures in between, EVERY steps apart. The last is always shown."
LOG = "Log it to the run, if no process trains it; `sisr sync` delivers it."


def main(
    run: Annotated[str, typer.Argument(help="A run's name or folder.", autocompletion=run_names)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help=OUTPUT)] = None,
    rows: Annotated[str | None, typer.Option(help=ROWS)] = None,
    steps: Annotated[str, typer.Option(help=STEPS)] = "::",
    frames_per_second: Annotated[float, typer.Option(min=0.1, max=50, help="Evaluations shown in a second.")] = 4.0,
    hold_last: Annotated[float, typer.Option(min=0, max=600, help="Seconds that the last frame stays.")] = 2.0,
    max_mb: Annotated[float, typer.Option(min=0.001, help="Largest file, in millions of bytes.")] = 10.0,
    log: Annotated[bool, typer.Option(help=LOG)] = True,
    runs: Runs = Path("runs"),
    json: Json = False,
) -> None:
    """Animate a run's sample pictures."""
    first, last, every = _range(steps)
    folder = folder_of("run", run, runs, RECORD)
    target = output or folder / "evolution.webp"
    suffix = files.check(target)
    record = RunFolder(folder)
    found = samples.read_samples(folder, dict(record.evaluations()), record.status().get("baseline") or {})
    layout, chosen, notes = samples.alike(folder, samples.spaced(found, first, last, every))
    shown = _rows(rows, min(layout.count_rows(size(sample.path)) for sample in chosen))
    timing = files.Timing(frames_per_second, hold_last)
    made = files.fit(Artist(layout, shown, chosen).draw, len(chosen), layout, suffix, timing, int(max_mb * 1e6))
    with atomic.file(target) as unfinished:
        unfinished.write_bytes(made.content)
    why_not = _log(folder, target) if log else "--no-log"
    result = {
        "run": folder.name,
        "output": str(target),
        "bytes": len(made.content),
        "width": made.size[0],
        "height": made.size[1],
        "seconds": round(sum(timing.durations_ms(len(made.chosen))) / 1000, 2),
        "rows": [row + 1 for row in shown],
        "steps": [chosen[i].step for i in made.chosen],
        "notes": notes + made.given_up(len(chosen), suffix),
        "logged": why_not is None,
        "not_logged_because": why_not,
    }
    if json:
        console.print_json(result)
    else:
        _print(result)


def _range(text: str) -> tuple[int, int | None, int]:
    """Return the first and last step (None: the newest) and the least distance that --steps asks for."""
    wrong = ConfigError(f"--steps {text}: must be FIRST:LAST:EVERY in whole steps, as in 0:10000:1000")
    try:
        first, last, every = (int(part) if part.strip() else None for part in (text + "::").split(":", 3)[:3])
    except ValueError:
        raise wrong from None
    if text.count(":") not in (1, 2) or min(first or 0, last or 0) < 0 or (every is not None and every < 1):
        raise wrong
    return first or 0, last, every or 1


def _rows(text: str | None, count: int) -> list[int]:
    """Return the rows that --rows asks for, counted from 0, of the `count` that all pictures have."""
    if text is None:
        return list(range(count))
    try:
        chosen = [int(part) - 1 for part in text.split(",")]
    except ValueError:
        chosen = []
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= row < count for row in chosen):
        raise ConfigError(f"--rows {text}: must be different numbers from 1 to {count}, as in 1,{count}")
    return chosen


def _log(folder: Path, target: Path) -> str | None:
    """Record the animation as an artifact of its run; return why that was not possible, or None."""
    if not target.resolve().is_relative_to(folder.resolve()):
        return f"it lies outside of the run's folder {folder}"
    try:
        with RunFolder(folder).lock(), Outbox(folder) as outbox:
            outbox.artifact(target.resolve().relative_to(folder.resolve()))
    except RunLockedError as error:
        return f"{error}; animate again when it has ended"
    except DiskError as error:
        return str(error)
    return None


def _print(result: dict[str, Any]) -> None:
    size = f"{result['width']}x{result['height']} px, {result['bytes'] / 1e6:.2f} MB"
    frames = f"{len(result['steps'])} frames in {result['seconds']:g} s"
    console.out.print(f"{result['output']}: {frames}, {size}", markup=False)
    for note in result["notes"]:
        console.write(f"  {note}", hanging=0)
    if result["logged"]:
        console.out.print(f"  logged to run {result['run']}; `sisr sync` delivers it", markup=False)
    elif result["not_logged_because"] != "--no-log":
        console.note(f"  not logged: {result['not_logged_because']}")


if __name__ == "__main__":
    cli.run(main)
