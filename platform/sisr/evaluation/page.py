"""A comparison as one page that needs nothing else: table, a slider between two pictures, crops and error maps."""

from collections.abc import Sequence
from typing import Any

from sisr.evaluation.gallery import Place
from sisr.evaluation.pictures import BRIGHTEST, COLOURS, error_map, png
from sisr.evaluation.ranking import WORDS, Row, interval, with_spread
from sisr.metrics.catalogue import PSNR_Y
from sisr.pictures.page import data_address, render

ABOUT = (
    "Mean ± standard deviation over the images. A difference is the mean over the images of the model's value minus "
    "the reference's, with its 95 % interval: percentile bootstrap, paired over images.",
    "More PSNR and SSIM is better; of the others, which are perceptual distances, less. SWD is of all images together.",
    "“Better” and “worse”: the interval does not reach 0. “No difference shown”: it does; more images might show one.",
    "Multiply-adds are those of convolutions, matrix products and attention for one lr of 64x64 px. Time is the median "
    "over these images, measured in turns on one machine.",
)


def page(rows: Sequence[Row], places: Sequence[Place], facts: Sequence[str], notes: Sequence[str]) -> str:
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
        names=["HR", *(row.model for row in rows)],
        places=[_shown(place, rows) for place in places],
        colours=COLOURS,
        brightest=BRIGHTEST,
    ).html


def columns(rows: Sequence[Row]) -> list[str]:
    """Return the titles of the table's columns."""
    report = rows[0].report
    measured = [f"{WORDS[metric]}{' (dB)' if metric.startswith('psnr') else ''}" for metric in report.mean]
    differences = [f"{WORDS[metric]} difference [95 %]" for metric in report.images[0].values]
    return ["model", "verdict", *measured, *differences, "parameters", "multiply-adds", "ms/image"]


def cells(row: Row) -> list[str]:
    """Return a row of the table."""
    cost = row.cost
    return [
        row.model,
        row.verdict,
        *(with_spread(metric, row) for metric in row.report.mean),
        *(interval(metric, row.differences.get(metric)) for metric in row.report.images[0].values),
        "" if cost.parameters is None else f"{cost.parameters:,}",
        "" if cost.multiply_adds is None else f"{cost.multiply_adds / 1e9:.2f} G",
        f"{row.ms:.1f}",
    ]


def _shown(place: Place, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the templates need of a place: its pictures, error maps (one for each model) and captions."""
    hr, *patches = (place.patch(region) for region in place.regions)
    height, width = place.regions[0].shape[:2]
    values = [next(image.values for image in row.report.images if image.name == place.image) for row in rows]
    return {
        "place": place,
        "width": width,
        "height": height,
        "pictures": [data_address(png(region), "image/png") for region in place.regions],
        "errors": [data_address(png(error_map(patch, hr)), "image/png") for patch in patches],
        "captions": [f"{PSNR_Y.text(found[PSNR_Y.name])} {PSNR_Y.title} of the image" for found in values],
    }
