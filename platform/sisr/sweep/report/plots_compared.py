"""Pictures of trade-offs and of copies: the front of two measures, and the schedules that PBT found."""

import math
from typing import TYPE_CHECKING

from sisr.metrics.catalogue import ANY_DISTANCE, PSNR_Y, value_of
from sisr.sweep.plan import Measures
from sisr.sweep.report import drawing
from sisr.sweep.report.drawing import BLUE, GREEN, GREY, INK, ORANGE, figure, png
from sisr.sweep.space.axes import Axis, axes
from sisr.sweep.state import Sweep, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LABELS = 16


def pair(sweep: Sweep) -> Measures | None:
    """Return the two measures to weigh against each other: two objectives, or PSNR and a perceptual distance.

    None where no trial has both.
    """
    chosen = sweep.plan.measures
    if len(chosen) == 1:
        chosen = tuple((f"val/{metric.name}", metric.mode) for metric in (PSNR_Y, ANY_DISTANCE))
    return chosen if any(_point(trial, chosen) for trial in sweep.ranking()) else None


def _point(trial: Trial, measures: Measures) -> tuple[float, float] | None:
    first, second = (value_of(trial.values, metric) for metric, _ in measures)
    if first is None or second is None or not math.isfinite(first + second):
        return None
    return first, second


def _coordinates(trials: list[Trial], measures: Measures) -> tuple[list[float], list[float]]:
    points = [point for point in (_point(trial, measures) for trial in trials) if point]
    return [x for x, _ in points], [y for _, y in points]


def draw_front(sweep: Sweep, measures: Measures) -> bytes:
    """Return each trial as a point in two measures; members of the front are joined and labelled."""
    members, ranked = sweep.pareto(measures), [t for t in sweep.ranking() if _point(t, measures)]
    kept = {trial.number for trial in members}
    furthest = ranked[0].evaluated_at
    far = [t for t in ranked if t.evaluated_at == furthest and t.number not in kept]
    early = [t for t in ranked if t.evaluated_at < furthest]
    with figure(7.5, 5.2) as made:
        plot = made.add_subplot()
        for trials, colour, label in ((early, GREY, "stopped earlier"), (far, BLUE, f"at step {furthest:,}")):
            if trials:
                xs, ys = _coordinates(trials, measures)
                plot.scatter(xs, ys, 26, color=colour, alpha=max(0.35, drawing.faint(len(trials))), label=label, lw=0)
        xs, ys = _coordinates(members, measures)
        plot.plot(xs, ys, color=GREEN, lw=1.4, marker="o", ms=6.5, label="front: no other is better in both")
        plot.set_xlabel(drawing.title_of(*measures[0]))
        plot.set_ylabel(drawing.title_of(*measures[1]))
        plot.margins(0.1)
        drawing.legend_below(plot)
        made.canvas.draw()  # labels are placed by what they would cover
        _label(plot, [f"#{trial.number}" for trial in members], list(zip(xs, ys, strict=True)))
        return png(made)


def _label(plot: "Axes", labels: list[str], points: list[tuple[float, float]]) -> None:
    """Write labels beside points, none over another; of many, those that find no room are left out."""
    from matplotlib.transforms import Bbox

    places = plot.transData.transform(points)
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in places]
    every = max(1, len(labels) // MOST_LABELS)
    for i, (label, point) in enumerate(zip(labels, points, strict=True)):
        if i % every and i != len(labels) - 1:
            continue
        for offset in ((7, 5), (7, -13), (-24, 5), (-24, -13)):
            text = plot.annotate(label, point, offset, textcoords="offset points", size=9, color=INK, weight="bold")
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def draw_schedules(sweep: Sweep) -> bytes:
    """Return the settings of each trial over the steps, as PBT changed them; the best trial's descent is strong."""
    drawn = [axis for axis in axes(sweep) if axis.labels or axis.low < axis.high]
    best = sweep.best()
    descent = lineage(sweep, best) if best else []
    with figure(8.5, 0.9 + 2.1 * max(1, len(drawn))) as made:
        panels = drawing.panels(made, len(drawn))
        for plot, axis in zip(panels, drawn, strict=True):
            _schedules(plot, sweep, axis, descent)
            plot.set_xlim(0, None)
            plot.set_title(axis.name, fontsize=10)
            plot.tick_params(axis="x", labelbottom=plot is panels[-1])
        if panels:
            panels[-1].set_xlabel("step")
            last = f"descent of trial {best.number}, the best" if best else None
            named = (
                (GREY, 1.2, "a trial"),
                (ORANGE, 1.2, "copied from a better trial, then changed"),
                (GREEN, 2.6, last),
            )
            for colour, width, label in named:
                panels[0].plot([], [], color=colour, lw=width, label=label)
            drawing.legend_below(panels[0])
        return png(made)


Piece = tuple[int, int, int]  # (trial, first step, last step)


def lineage(sweep: Sweep, trial: Trial) -> list[Piece]:
    """Return which trial's settings led to a trial's networks, from step 0 on."""
    pieces: list[Piece] = []
    number, end = trial.number, trial.step
    while True:
        copies = [e for e in sweep.trials[number].exploits if e.step < end]
        if not copies:
            return [(number, 0, end), *reversed(pieces)]
        pieces.append((number, copies[-1].step, end))
        number, end = copies[-1].donor, copies[-1].step


def pieces_of(trial: Trial) -> list[tuple[int, int, dict]]:
    """Return (first step, last step, settings) of each stretch that a trial ran with unchanged settings."""
    starts = [(0, trial.first_params), *((e.step, e.params) for e in trial.exploits)]
    ends = [*(step for step, _ in starts[1:]), max(trial.step, starts[-1][0])]
    return [(start, end, params) for (start, params), end in zip(starts, ends, strict=True) if end > start]


def _schedules(plot: "Axes", sweep: Sweep, axis: Axis, descent: list[Piece]) -> None:
    alpha = max(0.25, drawing.faint(len(sweep.trials)))
    for trial in sweep.trials:
        for start, end, params in pieces_of(trial):
            plot.plot([start, end], [_height(axis, params)] * 2, color=GREY, lw=1.2, alpha=alpha)
        for exploit in trial.exploits:
            donor = sweep.trials[exploit.donor]
            earlier = [copy.params for copy in donor.exploits if copy.step < exploit.step]
            heights = [_height(axis, [donor.first_params, *earlier][-1]), _height(axis, exploit.params)]
            plot.plot([exploit.step] * 2, heights, color=ORANGE, lw=1.2, alpha=0.7)
    steps, heights = [], []
    for number, start, end in descent:
        for first, last, params in pieces_of(sweep.trials[number]):
            if first < end and last > start:
                steps += [max(first, start), min(last, end)]
                heights += [_height(axis, params)] * 2
    plot.plot(steps, heights, color=GREEN, lw=2.6, zorder=5)
    if axis.labels:
        plot.set_yticks(range(len(axis.labels)), axis.labels)
        plot.set_ylim(-0.4, len(axis.labels) - 0.6)
    elif axis.log:
        drawing.log_scale(plot)


def _height(axis: Axis, params: dict) -> float:
    place = axis.number(params.get(axis.name))
    if place is None:
        return float("nan")
    return 10.0**place if axis.log else place
