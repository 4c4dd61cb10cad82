"""A sweep as one HTML page that needs nothing beside itself: no server, no network, no other file."""

from collections.abc import Mapping, Sequence

from sisr.pictures.page import data_address, render
from sisr.sweep.report import numbers
from sisr.sweep.report.board import Row, columns, counts
from sisr.sweep.report.gallery import StepSamples
from sisr.sweep.state import Sweep


def page(
    sweep: Sweep,
    rows: Sequence[Row],
    sentences: Sequence[str],
    plots: Mapping[str, bytes],
    notes: Mapping[str, str],
    samples: Sequence[StepSamples],
) -> str:
    """Return the page.

    Args:
        sweep: A sweep.
        rows: Its leaderboard.
        sentences: What it found.
        plots: PNG pictures by title.
        notes: By title, what stands below a picture, or in its place where there is none.
        samples: Trials' sample pictures.
    """
    drawn = {title: data_address(content, "image/png") for title, content in plots.items()}
    return render(
        "sweep/report/page.html",
        styles=["sweep/report/page.css"],
        scripts=["sweep/report/page.js"],
        plan=sweep.plan,
        facts=_facts(sweep),
        sentences=sentences,
        best=sweep.best(),
        columns=columns(sweep.plan, rows),
        settings=list(dict.fromkeys(name for row in rows for name in row.params)),
        rows=rows,
        short=numbers.short,
        in_one_line=numbers.settings,
        samples=samples,
        plots=[
            {"title": title, "address": drawn.get(title), "note": notes.get(title)}
            for title in dict.fromkeys((*plots, *notes))
        ],
    ).html


def _facts(sweep: Sweep) -> str:
    plan = sweep.plan
    goals = (f"{metric} {mode}" for metric, mode in zip(plan.objective, plan.mode, strict=True))
    states = ", ".join(f"{count} {state}" for state, count in counts(sweep).items()) or "no trial"
    search = f"{plan.search} search" + ("" if plan.scheduler == "none" else f", {plan.scheduler}")
    return f"{plan.recipe} · {' and '.join(goals)} · {search} · {plan.steps:,} steps · {sweep.state}: {states}"
