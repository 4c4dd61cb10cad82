"""What the pictures of a sweep have in common: colours that everybody tells apart, and sizes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sisr.metrics.catalogue import metric as catalogued
from sisr.sweep.report.numbers import short
from sisr.sweep.state import Sweep, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which holds for the common kinds of colour blindness.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#8a8f98"
INK, AXIS = "#23272e", "#6f7680"
WIDE, NARROW = 8.5, 4.4  # inches, of a figure on a screen and on a telephone
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
        made = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(made)
        yield made


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
    """Put the legend under the picture, where it hides nothing; in fewer columns where it would be wider."""
    if handles := axes.get_legend_handles_labels()[0]:
        width = axes.figure.get_figure(root=True).get_size_inches()[0]
        fitting = max(1, min(columns, int(width // 2.1)))
        axes.figure.legend(loc="outside lower left", ncols=fitting, handles=handles)


def panels(made: "Figure", count: int) -> list["Axes"]:
    """Return `count` plots over steps, one below the other."""
    found = [made.add_subplot(count, 1, i + 1) for i in range(count)]
    for plot in found:
        plot.xaxis.set_major_formatter("{x:,.0f}")
    return found


def title_of(metric: str, mode: str) -> str:
    """Return what stands beside the axis of a metric."""
    return f"{catalogued(metric).title} ({'higher' if mode == 'max' else 'lower'} is better)"
