"""A comparison as one page that needs nothing else: table, a slider between two pictures, crops and error maps."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from string import Template

from sisr.evaluation.gallery import Place
from sisr.evaluation.pictures import BRIGHTEST, COLOURS, data_address, error_map
from sisr.evaluation.ranking import BETTER, WORDS, WORSE, Row, interval, with_spread
from sisr.metrics.catalogue import PSNR_Y
from sisr.pictures import slider

TEMPLATE = Path(__file__).with_name("page.html")
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
    names = ["HR", *(row.model for row in rows)]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(f"Comparison of {len(rows)} models"),
        slider_style=slider.style(),
        slider_script=slider.script(),
        ramp=", ".join(f"rgb{colour}" for colour in COLOURS),
        pictures="\n".join(rule for i, place in enumerate(places) for rule in _pictures(i, place)),
        facts="<br>".join(map(escape, facts)),
        columns="".join(f"<th>{escape(column)}</th>" for column in columns(rows)),
        rows="\n".join(_row(row) for row in rows),
        notes="\n".join(f"<li>{escape(note)}</li>" for note in (*notes, *ABOUT)),
        places="\n".join(_place(i, place, names, rows) for i, place in enumerate(places)),
    )


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


def _row(row: Row) -> str:
    model, word, *numbers = (escape(cell) for cell in cells(row))
    kind = row.verdict if row.verdict in (BETTER, WORSE) else ""
    # Intervals get a line of their own.
    rest = "".join(f"<td>{number.replace(' [', '<br>[')}</td>" for number in numbers)
    return f'<tr><td>{model}</td><td class="word {kind}">{word}</td>{rest}</tr>'


def _pictures(index: int, place: Place) -> Iterator[str]:
    """Yield style rules that hold the pictures: each once, however often it is shown."""
    hr = place.patch(place.regions[0])
    for number_, region in enumerate(place.regions):
        yield f".p{index}-{number_} {{ background-image: url({data_address(region)}) }}"
        if number_:
            yield f".e{index}-{number_} {{ background-image: url({data_address(error_map(place.patch(region), hr))}) }}"


def _place(index: int, place: Place, names: Sequence[str], rows: Sequence[Row]) -> str:
    height, width = place.regions[0].shape[:2]
    sizes = {"width": width, "height": height, "side": place.side, "top": place.top, "left": place.left}
    style = "; ".join(f"--{name}: {value}" for name, value in sizes.items())
    where = f"{place.side}x{place.side} px at column {place.column:,}, row {place.row:,}"
    return f"""<section class="place" style="{style}">
<h2>{escape(place.image)}</h2>
<p class="about">The models differ most in the marked patch, {where}:
by {place.spread:.1f} grey levels (standard deviation).</p>
<div class="choice">
<label>Left <select>{_options(index, names, 1)}</select></label>
<label>Right <select>{_options(index, names, 0)}</select></label>
</div>
{_viewer(index, place)}
<div class="crops">
{"".join(_crop(index, i, name, place, rows) for i, name in enumerate(names))}
</div>
<div class="scale">|SR - HR|, mean of the channels, below each model: 0
<span class="ramp"></span> {BRIGHTEST} grey levels or more</div>
</section>"""


def _options(index: int, names: Sequence[str], chosen: int) -> str:
    marks = ["" if i != chosen else " selected" for i in range(len(names))]
    return "".join(
        f'<option value="p{index}-{i}"{m}>{escape(n)}</option>'
        for i, (n, m) in enumerate(zip(names, marks, strict=True))
    )


def _viewer(index: int, place: Place) -> str:
    height, width = place.regions[0].shape[:2]
    box = {
        "left": place.left / width,
        "top": place.top / height,
        "width": place.side / width,
        "height": place.side / height,
    }
    marked = "; ".join(f"{name}: {100 * share:.3f}%" for name, share in box.items())
    patch = f'<div class="patch" style="{marked}"></div>'
    label = f"Boundary between the left and the right picture of {place.image}"
    return slider.viewer(label, f"p{index}-0", f"p{index}-1", patch)


def _crop(index: int, picture: int, name: str, place: Place, rows: Sequence[Row]) -> str:
    label = escape(f"{name}, patch of {place.image}")
    shown = f'<div class="crop p{index}-{picture}" role="img" aria-label="{label}"></div>'
    caption = escape(name)
    if picture:
        values = next(i.values for i in rows[picture - 1].report.images if i.name == place.image)
        shown += f'<div class="crop error e{index}-{picture}" role="img" aria-label="Error of {label}"></div>'
        caption += f"<br>{PSNR_Y.text(values[PSNR_Y.name])} {PSNR_Y.title} of the image"
    return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>\n"
