"""What the pictures of a sweep have in common: colours that everybody tells apart, sizes, and the way to PNG."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sisr.sweep.report.numbers import metric_name, short
from sisr.sweep.state import Sweep, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which holds for the common kinds of colour blindness.
BLUE, ORANGE, GREEN, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#8a8f98"
INK = "#23272e"
DPI = 130
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": "#b5bac2",
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e6e8eb",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,
}


@contextmanager
def figure(width: float, height: float) -> Iterator["Figure"]:
    """Hand out an empty figure of so many inches, in the common style; pyplot and its windows stay out of it."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(made)
        yield made


def png(made: "Figure") -> bytes:
    """Return a figure as PNG; the same figure gives the same bytes."""
    file = io.BytesIO()
    made.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def faint(count: int) -> float:
    """Return how opaque each of `count` lines may be, so that all together do not become one blot."""
    return max(0.12, min(0.7, 12 / max(1, count)))


def groups(sweep: Sweep) -> tuple[Trial | None, list[Trial], list[Trial], list[Trial]]:
    """Return the best trial, those that went as far, those that stopped earlier, and those that diverged."""
    ranked, diverged = sweep.ranking(), [trial for trial in sweep.trials if trial.state == "diverged"]
    if not ranked:
        return None, [], [], diverged
    far = [trial for trial in ranked[1:] if trial.evaluated_at == ranked[0].evaluated_at]
    early = [trial for trial in ranked if trial.evaluated_at < ranked[0].evaluated_at]
    return ranked[0], far, early, diverged


def log_scale(axes: "Axes") -> None:
    """Make the vertical axis logarithmic, with labels as everywhere else: 1e-4, 3e-4."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(10, (1.0,) if high / low > 30 else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(float(value))))
    axes.yaxis.set_minor_formatter(NullFormatter())


def legend_below(axes: "Axes", columns: int = 4) -> None:
    """Put the legend under the picture, where it hides nothing."""
    if handles := axes.get_legend_handles_labels()[0]:
        axes.figure.legend(loc="outside lower center", ncols=columns, handles=handles)


def panels(made: "Figure", count: int) -> list["Axes"]:
    """Return `count` plots over steps, one below the other."""
    found = [made.add_subplot(count, 1, i + 1) for i in range(count)]
    for plot in found:
        plot.xaxis.set_major_formatter("{x:,.0f}")
    return found


def title_of(metric: str, mode: str) -> str:
    """Return what stands beside the axis of a metric."""
    return f"{metric_name(metric)} ({'higher' if mode == 'max' else 'lower'} is better)"
