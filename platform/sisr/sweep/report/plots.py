"""Pictures of a search: which settings mattered, where the good ones lie, how trials learned."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sisr.metrics.catalogue import SCORE, value_of
from sisr.sweep.report import drawing
from sisr.sweep.report.drawing import AXIS, BLUE, GREEN, GREY, INK, ORANGE, figure
from sisr.sweep.report.importance import Importance
from sisr.sweep.report.numbers import metric_name, number, own
from sisr.sweep.space.axes import Axis, axes
from sisr.sweep.state import Sweep, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXIS_WIDTH = 1.12  # inches between two axes, of which each has its name above and its labels beside it
DIVERGED_AT = -0.12  # below the axis of an objective, where 0 is its worst value


def draw_importance(found: Importance, width: float) -> "Figure":
    """Return bars of how much each setting mattered, the largest on top."""
    names, shares = list(found.shares)[::-1], list(found.shares.values())[::-1]
    with figure(width, 0.5 + 0.36 * len(names)) as made:
        plot = made.add_subplot()
        bars = plot.barh(names, shares, color=BLUE, height=0.62)
        plot.bar_label(bars, ["<1%" if share < 0.01 else f"{share:.0%}" for share in shares], padding=4)
        plot.set_xlim(0, max(shares) * (1.12 if width > drawing.NARROW else 1.3))
        plot.xaxis.set_visible(False)
        plot.grid(False)
        plot.spines[["bottom"]].set_visible(False)
        plot.tick_params(axis="y", length=0)
        return made


def draw_parallel(sweep: Sweep) -> "Figure":
    """Return each trial as a line across the swept settings to what it reached; the best one strong.

    It is as wide as its axes need: labels that are made smaller can't be read.
    """
    best, far, early, diverged = drawing.groups(sweep)
    settings = axes(sweep)
    outcomes = [_outcome_axis(sweep, metric, mode) for metric, mode in sweep.plan.measures]
    with figure(max(6.5, AXIS_WIDTH * (len(settings) + len(outcomes))), 4.8) as made:
        plot = made.add_subplot()
        bundles: list[tuple[str, list[Trial], dict[str, Any]]] = [
            ("stopped earlier", early, {"color": GREY, "alpha": drawing.faint(len(early)), "lw": 1}),
            ("diverged", diverged, {"color": ORANGE, "alpha": max(0.35, drawing.faint(len(diverged))), "ls": "--"}),
            ("went as far as the best", far, {"color": BLUE, "alpha": max(0.4, drawing.faint(len(far))), "lw": 1.3}),
            ("best", [best] if best else [], {"color": GREEN, "lw": 3, "zorder": 5}),
        ]
        for label, trials, style in bundles:
            for i, trial in enumerate(trials):
                places = _places(trial, settings, outcomes)
                name = (f"trial {trial.number}, the best" if label == "best" else label) if i == 0 else None
                plot.plot(range(len(places)), places, label=name, **style)
        _vertical_axes(plot, [*settings, *outcomes], bool(diverged))
        drawing.legend_below(plot)
        return made


def _outcome_axis(sweep: Sweep, metric: str, mode: str) -> Axis:
    """Return the axis of what trials reached; better is higher."""
    found = [value_of(trial.values, metric) for trial in sweep.ranking()]
    known = [value for value in found if value is not None and math.isfinite(value)] or [0.0]
    return Axis(own(sweep, metric), low=min(known), high=max(known), down=mode == "min")


def _places(trial: Trial, settings: list[Axis], outcomes: list[Axis]) -> list[float]:
    """Return the heights of a trial's line; what is not known is not drawn."""
    heights = [axis.place(trial.params.get(axis.name)) for axis in settings]
    for axis in outcomes:
        heights.append(DIVERGED_AT if trial.state == "diverged" else axis.place(value_of(trial.values, axis.name)))
    return [float("nan") if height is None else height for height in heights]


def _vertical_axes(plot: "Axes", drawn: list[Axis], diverged: bool) -> None:
    first_outcome = len(drawn) - sum("/" in axis.name for axis in drawn)
    for x, axis in enumerate(drawn):
        plot.axvline(x, color=INK if x >= first_outcome else AXIS, lw=1.2, zorder=4)
        ticks = axis.ticks()
        if x >= first_outcome:
            ticks = [(axis.place(value) or 0.0, number(axis.name, value)) for value in axis.tick_values()]
        for place, label in ticks:
            _note(plot, label, (x, place), INK)
        if diverged and x >= first_outcome:
            _note(plot, "diverged", (x, DIVERGED_AT), ORANGE)
    plot.set_xticks(range(len(drawn)), [_wrapped(metric_name(axis.name)) for axis in drawn])
    plot.tick_params(axis="x", length=0, labelsize=9.5)
    plot.set_xlim(-0.15, len(drawn) - 0.4)
    plot.set_ylim(-0.2 if diverged else -0.06, 1.06)
    plot.yaxis.set_visible(False)
    plot.grid(False)
    plot.spines[["left", "bottom"]].set_visible(False)
    plot.xaxis.tick_top()


def _note(plot: "Axes", text: str, point: tuple[float, float], colour: str) -> None:
    """Write beside an axis, on a background that lets lines shine through a little."""
    box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85}
    style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "size": 8.5, "bbox": box, "zorder": 6}
    plot.annotate(text, point, (5, 0), color=colour, **style)


def _wrapped(name: str) -> str:
    """Return a name in lines of about 14 characters, broken after an underscore."""
    lines = [""]
    for part in name.replace("_", "_ ").split():
        if lines[-1] and len(lines[-1] + part) > 14:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def draw_curves(sweep: Sweep, baseline: Mapping[str, float], width: float) -> "Figure":
    """Return how each trial's values went with its steps, one panel for each objective.

    `baseline` has bicubic's values by metric, where they are known.
    """
    measures = [(own(sweep, metric), mode) for metric, mode in sweep.plan.measures]
    with figure(width, (0.3 * width + 1.8) * len(measures)) as made:
        panels = drawing.panels(made, len(measures))
        for plot, (metric, mode) in zip(panels, measures, strict=True):
            _curves(plot, sweep, metric, mode)
            zero = 0.0 if metric == f"val/{SCORE.name}" else baseline.get(metric)
            low, high = plot.get_ylim()
            if zero is not None and low <= zero <= high:
                plot.axhline(
                    zero, color=INK, lw=1, ls=":", label="bicubic" + (f" {number(metric, zero)}" if zero else "")
                )
            plot.set_xlabel("step")
            plot.set_ylabel(drawing.title_of(metric, mode))
        drawing.legend_below(panels[0], 5)
        return made


def _curves(plot: "Axes", sweep: Sweep, metric: str, mode: str) -> None:
    best, far, early, diverged = drawing.groups(sweep)
    lines = {trial.number: _line(trial, metric) for trial in sweep.trials}
    alpha = drawing.faint(len(sweep.trials))
    for trial in (*early, *diverged):
        plot.plot(*lines[trial.number], color=ORANGE if trial.state == "diverged" else GREY, alpha=alpha, lw=1)
    for i, trial in enumerate(far):
        label = "went as far as the best" if i == 0 else None
        plot.plot(*lines[trial.number], color=BLUE, alpha=max(0.4, drawing.faint(len(far))), lw=1.3, label=label)
    for trials, marker, colour, label in ((early, "|", GREY, "stopped earlier"), (diverged, "x", ORANGE, "diverged")):
        ends = [(xs[-1], ys[-1]) for xs, ys in (lines[t.number] for t in trials) if xs]
        if ends:
            steps, values = [step for step, _ in ends], [value for _, value in ends]
            plot.scatter(steps, values, 34, marker=marker, color=colour, lw=1.4, label=label, zorder=3)
    if best:
        # The marker shows a trial that was evaluated once.
        plot.plot(*lines[best.number], color=GREEN, lw=2.6, marker="o", ms=4, label=f"trial {best.number}, the best")
    _limit(plot, [ys for _, ys in lines.values() if ys], lines[best.number][1] if best else [], mode)


def _line(trial: Trial, metric: str) -> tuple[list[int], list[float]]:
    found = [(step, value_of(values, metric)) for step, values in trial.curve]
    known = [(step, value) for step, value in found if value is not None and math.isfinite(value)]
    return [step for step, _ in known], [value for _, value in known]


def _limit(plot: "Axes", curves: list[list[float]], best: list[float], mode: str) -> None:
    """Cut off what is far worse than most trials' ends and the best one's past, so that good ones can be told apart."""
    import numpy as np

    if not curves:
        return
    ends, everything = [ys[-1] for ys in curves], np.concatenate([np.array(ys) for ys in curves])
    sign = 1 if mode == "max" else -1
    top, middle = (sign * everything).max(), np.median(sign * np.array(ends))
    early = np.quantile(sign * np.array(best), 0.1) if best else top
    bottom = max((sign * everything).min(), top - 3 * max(top - middle, top - early, 1e-9))
    margin = 0.06 * max(top - bottom, 1e-6)
    low, high = sorted((sign * (bottom - margin), sign * (top + margin)))
    plot.set_ylim(low, high)
