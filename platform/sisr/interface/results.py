"""What the functions return: plain values, and what a notebook shows of them."""

import html
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sisr.metrics.catalogue import METRICS, find

if TYPE_CHECKING:
    from sisr.evaluation.compare import Comparison
    from sisr.evaluation.measure import Measurement


@dataclass(frozen=True)
class Trained:
    """A run that has come to its end."""

    name: str
    folder: Path
    status: dict[str, Any] = field(repr=False)
    printed: str = field(default="", repr=False)  # what the verb would have printed

    @property
    def metrics(self) -> dict[str, float]:
        """The last validation's, by their names without `val/`."""
        return {name.removeprefix("val/"): value for name, value in self.status["validation"].items()}

    @property
    def picture(self) -> Path | None:
        """The newest sample picture: lr, bicubic, sr and hr of held-out images."""
        return max((self.folder / "samples" / "val").glob("step_*.png"), default=None)

    def _repr_html_(self) -> str:
        values, bicubic = self.metrics, self.status.get("baseline", {})
        rows = [[name, _text(name, values), _text(name, bicubic)] for name in values]
        title = f"run {self.name}, step {self.status['step']:,}"
        return _table(title, ["held-out images", "model", "bicubic"], rows) + _image(self.picture)


@dataclass(frozen=True)
class Searched:
    """A sweep that has come to its end."""

    name: str
    folder: Path
    result: dict[str, Any] = field(repr=False)  # as `sisr tune --json`
    printed: str = field(default="", repr=False)

    @property
    def best(self) -> Path:
        """The settings of the best trial: what `sisr train RECIPE --config` takes."""
        return self.folder / "best.yaml"

    @property
    def page(self) -> Path:
        """The sweep's page."""
        return self.folder / "results" / "index.html"

    def _repr_html_(self) -> str:
        best = self.best.read_text() if self.best.is_file() else ""
        return f"<p>sweep {html.escape(self.name)}: {html.escape(str(self.page))}</p><pre>{html.escape(best)}</pre>"


@dataclass(frozen=True)
class Evaluated:
    """Models measured on the same images."""

    measurements: "Sequence[Measurement]" = field(repr=False)
    printed: str = field(default="", repr=False)

    @property
    def protocol(self) -> str:
        """How the first model was measured."""
        return self.measurements[0].protocol

    @property
    def mean(self) -> dict[str, dict[str, float]]:
        """By model, each metric over the images."""
        return {found.model: found.mean for found in self.measurements}

    def _repr_html_(self) -> str:
        names = list(self.measurements[0].mean)
        rows = [[model, *(_text(name, values) for name in names)] for model, values in self.mean.items()]
        count = len(self.measurements[0].images)
        return _table(f"{count} images, {self.protocol}", ["model", *(METRICS[name].title for name in names)], rows)


@dataclass(frozen=True)
class Compared:
    """Models compared with one of them, and the folder with the page."""

    comparison: "Comparison" = field(repr=False)
    printed: str = field(default="", repr=False)

    @property
    def folder(self) -> Path:
        """Where the page, the numbers and the pictures are."""
        return self.comparison.folder

    @property
    def verdicts(self) -> dict[str, str]:
        """By model, in a word whether it is better than the reference."""
        return {row.model: row.verdict for row in self.comparison.rows}

    def _repr_html_(self) -> str:
        from sisr.evaluation.page import cells, columns

        rows = self.comparison.rows
        title = f"{self.comparison.content['num_images']} images, against {self.comparison.content['against']}"
        table = _table(title, columns(rows), [cells(row) for row in rows])
        return table + "".join(_image(self.folder / sheet) for sheet in self.comparison.sheets)


@dataclass(frozen=True)
class Upscaled:
    """An enlarged image that was written."""

    path: Path
    facts: dict[str, Any] = field(repr=False)  # as `sisr upscale --json`
    printed: str = field(default="", repr=False)

    def open(self) -> Any:
        """Return it as Pillow's image."""
        from PIL import Image

        with Image.open(self.path) as picture:
            picture.load()
        return picture

    def _repr_png_(self) -> bytes:
        if self.path.suffix.lower() == ".png":
            return self.path.read_bytes()
        from io import BytesIO

        content = BytesIO()
        self.open().save(content, format="PNG")
        return content.getvalue()


def _text(name: str, values: dict[str, float]) -> str:
    if name not in values:
        return ""
    metric = find(name)
    return metric.text(values[name]) if metric else f"{values[name]:.4g}"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>{html.escape(title)}</caption><tr>{head}</tr>{body}</table>"


def _image(path: Path | None) -> str:
    if path is None or not path.is_file():
        return ""
    return f'<img alt="{html.escape(path.name)}" src="data:image/png;base64,{b64encode(path.read_bytes()).decode()}">'
