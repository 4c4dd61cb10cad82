"""The folder of one comparison: a page that needs nothing else, the numbers, and a picture of each place.

The page has a table, a slider between two pictures, crops and error maps.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sisr.disk import atomic
from sisr.evaluation.gallery import BRIGHTEST, COLOURS, Place, contact_sheet, error_map, png
from sisr.evaluation.ranking import Ranked
from sisr.metrics.catalogue import METRICS, PSNR_Y
from sisr.pictures.page import data_address, render

PAGE, RESULT = "comparison.html", "comparison.json"
MAGNIFICATIONS = (1, 2, 4, 8)
ABOUT = (
    "Mean ± standard deviation over the images; below it the difference: the mean over the images of the model's value "
    "minus the reference's, with its 95 % interval, paired over images: Student's of fewer than 30, else percentile "
    "bootstrap. SWD and the score are of all images together: there, images are left out in turn (jackknife).",
    "More PSNR, SSIM and score is better; of the others, which are perceptual distances, less. A score of 1 is twice "
    "as good as bicubic, in the geometric mean of fidelity and perception.",
    "“Better” and “worse”: the interval does not reach 0. “No difference shown”: it does; more images might show one.",
    "Multiply-adds are those of convolutions, matrix products and attention for one lr of 64x64 px. Time is the median "
    "over these images, measured in turns on one machine.",
)


def write(
    folder: Path,
    result: dict[str, Any],
    rows: Sequence[Ranked],
    places: Sequence[Place],
    facts: Sequence[str],
    notes: Sequence[str],
) -> list[str]:
    """Write `PAGE`, `RESULT` and a picture for each place into `folder`, replacing older ones; return the pictures.

    Args:
        folder: Created where missing.
        result: What the JSON file holds; finite numbers only.
        rows: This and what follows: as `page` takes them.

    Raises:
        DiskError: It can't be written.
    """
    with atomic.file(folder / PAGE) as unfinished:
        # A file's name may be no text.
        unfinished.write_bytes(page(rows, places, facts, notes).encode("utf-8", "backslashreplace"))
    with atomic.file(folder / RESULT) as unfinished:
        unfinished.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    sheets = [f"places/{number}.png" for number in range(1, len(places) + 1)]
    for path, place in zip(sheets, places, strict=True):
        with atomic.file(folder / path) as unfinished:
            contact_sheet(place, [row.model for row in rows]).save(unfinished)
    return sheets


def page(rows: Sequence[Ranked], places: Sequence[Place], facts: Sequence[str], notes: Sequence[str]) -> str:
    """Return the page.

    Args:
        rows: One for each model.
        places: What to show; their regions are hr and then the models', in the order of `rows`.
        facts: What was compared, in words.
        notes: What a reader must know besides.
    """
    return render(
        "evaluation/page.html",
        styles=["pictures/slider.css", "evaluation/page.css"],
        scripts=["pictures/slider.js", "evaluation/page.js"],
        facts=facts,
        columns=columns(rows),
        rows=[cells(row) for row in rows],
        notes=[*notes, *ABOUT],
        names=["HR", *(row.model for row in rows), *(["LR"] if all(place.lr is not None for place in places) else [])],
        num_models=len(rows),
        magnifications=MAGNIFICATIONS,
        places=[_shown(place, rows) for place in places],
        colours=COLOURS,
        brightest=BRIGHTEST,
    ).html


def columns(rows: Sequence[Ranked]) -> list[str]:
    """Return the titles of the table's columns."""
    metrics = [METRICS[name] for name in rows[0].measured.mean]
    values = [f"{metric.title}{f' ({metric.unit})' if metric.unit else ''}" for metric in metrics]
    return ["model", "verdict", *values, "parameters", "multiply-adds", "ms/image"]


def cells(row: Ranked) -> list[str]:
    """Return a row of the table; below a value stands its difference from the reference's, with its interval."""
    cost, metrics = row.cost, row.measured.mean
    found = {metric: row.differences.get(metric) for metric in metrics}
    return [
        row.model,
        row.verdict,
        *(row.text(m) + (f"\n{other.text(unit=False)}" if (other := found[m]) else "") for m in metrics),
        "" if cost.parameters is None else f"{cost.parameters:,}",
        "" if cost.multiply_adds is None else f"{cost.multiply_adds / 1e9:.2f} G",
        f"{row.ms:.1f}",
    ]


def _shown(place: Place, rows: Sequence[Ranked]) -> dict[str, Any]:
    """Return what the templates need of a place: its pictures, error maps (one for each model) and captions."""
    hr, *patches = (place.patch(region) for region in place.regions)
    regions = [*place.regions, *([] if place.lr is None else [place.lr])]
    height, width = place.regions[0].shape[:2]
    values = [next(image.values for image in row.measured.images if image.name == place.image) for row in rows]
    return {
        "place": place,
        "width": width,
        "height": height,
        "pictures": [data_address(png(region), "image/png") for region in regions],
        "errors": [data_address(png(error_map(patch, hr)), "image/png") for patch in patches],
        "captions": [f"{PSNR_Y.text(found[PSNR_Y.name])} {PSNR_Y.title} of the image" for found in values],
    }
