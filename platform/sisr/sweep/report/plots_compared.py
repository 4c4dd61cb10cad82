"""Pictures of trade-offs and of copies: the front of two measures, and the schedules that PBT found."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sisr.metrics.catalogue import ANY_DISTANCE, PSNR_Y, value_of
from sisr.sweep.plan import Measures
from sisr.sweep.report import drawing
from sisr.sweep.report.drawing import BLUE, GREEN, GREY, INK, ORANGE, figure
from sisr.sweep.report.numbers import own
from sisr.sweep.space.axes import Axis, axes
from sisr.sweep.state import Sweep, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LABELS = 16


@dataclass(frozen=True)
class Front:
    """Trials in two measures at one step; values at unequal steps don't compare."""

    step: int
    compared: list[Trial]
    members: list[Trial]  # of them those that no other is better than in both

    def points(self, trials: list[Trial], measures: Measures) -> tuple[list[float], list[float]]:
        """Return the coordinates of trials at the step."""
        found = [point for point in (_point(trial.values_at(self.step), measures) for trial in trials) if point]
        return [x for x, _ in found], [y for _, y in found]


def pair(sweep: Sweep) -> Measures | None:
    """Return the two measures to weigh against each other: two objectives, or PSNR and the distance that was measured.

    None where no trial has both.
    """
    chosen = sweep.plan.measures
    if len(chosen) == 1:
        chosen = tuple((f"val/{metric.name}", metric.mode) for metric in (PSNR_Y, ANY_DISTANCE))
    chosen = tuple((own(sweep, name), mode) for name, mode in chosen)
    return chosen if any(_point(trial.values, chosen) for trial in sweep.ranking()) else None


def fronts(sweep: Sweep, measures: Measures) -> list[Front]:
    """Return the front at the last step that most trials were evaluated at, and at the furthest, where that is another.

    Early stopping leaves few trials at the furthest step; at an earlier one all can be compared.
    """
    having = [{step for step, values in t.curve if step and _point(values, measures)} for t in sweep.ranking()]
    reached = Counter(step for steps in having for step in steps)
    if not reached:  # all were evaluated before the first step only
        reached = Counter([0])
    steps = sorted({max(reached, key=lambda step: (reached[step], step)), max(reached)})
    found = []
    for step in steps:
        compared = [trial for trial in sweep.ranking() if _point(trial.values_at(step), measures)]
        found.append(Front(step, compared, sweep.pareto(measures, step)))
    return found


def about(sweep: Sweep, found: list[Front]) -> str:
    """Return in words which trials are compared, and which are not."""
    places = [f"{len(front.compared)} trials at step {front.step:,}" for front in found]
    missing = len(sweep.ranking()) - len(found[0].compared)
    rest = f"; {missing} were not measured there in both, and are left out" if missing else ""
    return f"Compared are {' and, apart from them, '.join(places)}: values at different steps say nothing{rest}."


def _point(values: Mapping[str, float], measures: Measures) -> tuple[float, float] | None:
    first, second = (value_of(values, metric) for metric, _ in measures)
    if first is None or second is None or not math.isfinite(first + second):
        return None
    return first, second


def draw_front(found: list[Front], measures: Measures, width: float) -> "Figure":
    """Return each trial as a point in two measures, a panel for each step; the front's are joined and named."""
    rows, columns = (1, len(found)) if width > drawing.NARROW else (len(found), 1)
    with figure(width, 3.6 * rows + 1) as made:
        panels = [made.add_subplot(rows, columns, i + 1) for i in range(len(found))]
        for plot, front in zip(panels, found, strict=True):
            others = [trial for trial in front.compared if trial not in front.members]
            xs, ys = front.points(others, measures)
            plot.scatter(xs, ys, 26, color=BLUE, alpha=max(0.35, drawing.faint(len(others))), label="a trial", lw=0)
            xs, ys = front.points(front.members, measures)
            plot.plot(xs, ys, color=GREEN, lw=1.4, marker="o", ms=6.5, label="front: no other is better in both")
            plot.set_title(f"step {front.step:,}: {len(front.compared)} trials", fontsize=10)
            plot.set_xlabel(drawing.title_of(*measures[0]))
            plot.set_ylabel(drawing.title_of(*measures[1]))
            plot.margins(0.1)
        drawing.legend_below(panels[0])
        made.draw_without_rendering()  # labels are placed by what they would cover
        for plot, front in zip(panels, found, strict=True):
            points = zip(*front.points(front.members, measures), strict=True)
            _label(plot, [f"#{trial.number}" for trial in front.members], list(points))
        return made


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


def draw_schedules(sweep: Sweep, width: float) -> "Figure":
    """Return the settings of each trial over the steps, as PBT changed them; the best trial's descent is strong."""
    drawn = [axis for axis in axes(sweep) if axis.labels or axis.low < axis.high]
    best = sweep.best()
    descent = lineage(sweep, best) if best else []
    with figure(width, 0.9 + 2.1 * max(1, len(drawn))) as made:
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
        return made


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
