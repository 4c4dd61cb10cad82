"""A sweep as one HTML page that needs nothing beside itself: no server, no network, no other file."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from sisr.sweep.plan import Plan
from sisr.sweep.report import numbers
from sisr.sweep.report.board import MEASURED, Row, counts, measured_of, objective_of
from sisr.sweep.report.gallery import Wall, data_uri
from sisr.sweep.state import Sweep
from sisr.terminal.console import duration

# Nothing is loaded from anywhere, whatever a name or a message holds.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class Markup(str):
    """HTML that is safe to write as it is; every other text is escaped."""


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """Return an element; texts are escaped, attributes lose a trailing underscore and have `-` for `_`."""
    written = "".join(
        f' {k.rstrip("_").replace("_", "-")}="{escape(str(v))}"' for k, v in attributes.items() if v is not None
    )
    inner = "".join(part if isinstance(part, Markup) else escape(str(part)) for part in content)
    return Markup(f"<{name}{written}>{inner}</{name}>" if name not in ("img", "meta") else f"<{name}{written}>")


def page(
    sweep: Sweep,
    rows: Sequence[Row],
    found: Sequence[str],
    plots: Mapping[str, bytes],
    notes: Mapping[str, str],
    walls: Sequence[Wall],
) -> str:
    """Return the page.

    Args:
        sweep: A sweep.
        rows: Its leaderboard.
        found: What it found, in sentences.
        plots: PNG pictures by title.
        notes: By title, what stands below a picture, or in its place where there is none.
        walls: Trials' sample pictures.
    """
    name = sweep.plan.name
    best = sweep.best()
    body = [
        tag("header", tag("h1", name), tag("p", _facts(sweep), class_="facts"), *(tag("p", text) for text in found)),
        *([tag("p", tag("code", numbers.settings(best.params)), class_="winner")] if best else []),
        tag("section", tag("h2", "Trials"), _filters(rows), _table(sweep.plan, rows)),
        *([_gallery(walls)] if walls else []),
        tag("section", tag("h2", "The search"), *_figures(plots, notes), class_="plots"),
        tag(
            "div",
            tag("div", class_="cells"),
            tag("p"),
            id="zoom",
            hidden="hidden",
            role="dialog",
            aria_label="enlarged",
        ),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", f"{name}: {sweep.plan.recipe}"),
        tag("style", _own("page.css")),
    ]
    script = tag("script", _own("page.js"))
    html = tag("html", tag("head", *head), tag("body", tag("main", *body), script), lang="en")
    return f"<!doctype html>\n{html}\n"


def _own(name: str) -> Markup:
    return Markup(files("sisr.sweep.report").joinpath(name).read_text())


def _facts(sweep: Sweep) -> str:
    plan = sweep.plan
    goals = (f"{metric} {mode}" for metric, mode in zip(plan.objective, plan.mode, strict=True))
    states = ", ".join(f"{count} {state}" for state, count in counts(sweep).items()) or "no trial"
    search = f"{plan.search} search" + ("" if plan.scheduler == "none" else f", {plan.scheduler}")
    return f"{plan.recipe} · {' and '.join(goals)} · {search} · {plan.steps:,} steps · {sweep.state}: {states}"


def _filters(rows: Sequence[Row]) -> Markup:
    states = dict.fromkeys(row.state for row in rows)
    buttons = [tag("button", "all", data_state="", aria_pressed="true", type="button")]
    buttons += [tag("button", state, data_state=state, aria_pressed="false", type="button") for state in states]
    return tag("div", *buttons, class_="filters", role="group", aria_label="filter by state")


def _table(plan: Plan, rows: Sequence[Row]) -> Markup:
    columns = [column for column in _columns(plan) if any(column[1](row) not in (None, 0) for row in rows) or not rows]
    settings = list(dict.fromkeys(name for row in rows for name in row.params))
    titles = [*(title for title, *_ in columns), *settings]
    head = tag("tr", *(tag("th", tag("button", title, type="button")) for title in titles))
    lines = [_line(row, columns, settings) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *lines), id="board"), class_="wide")


def _columns(plan: Plan) -> list[tuple[str, Any, Any]]:
    """Return (title, value to sort by, its text) of each column before the settings."""
    columns: list[tuple[str, Any, Any]] = [
        ("rank", lambda row: row.rank, lambda row: f"{row.rank or ''}{'*' if row.pareto else ''}"),
        ("trial", lambda row: row.trial + 1, lambda row: row.trial),  # trial 0 is a value, too
        ("state", lambda row: row.state, lambda row: row.state),
        ("step", lambda row: row.step, lambda row: f"{row.step:,}"),
    ]
    for i, metric in enumerate(plan.objective):
        columns.append((numbers.metric_name(metric), *_value(metric, objective_of(i))))
    for metric in MEASURED:
        if metric not in plan.objective:
            columns.append((numbers.metric_name(metric), *_value(metric, measured_of(metric))))
    columns.append(("copies", lambda row: row.copies, lambda row: row.copies))
    return [*columns, ("time", lambda row: row.seconds, lambda row: duration(row.seconds) if row.seconds else "")]


def _value(metric: str, get: Any) -> tuple[Any, Any]:
    return get, lambda row: numbers.number(metric, get(row))


def _line(row: Row, columns: Sequence[tuple[str, Any, Any]], settings: Iterable[str]) -> Markup:
    cells = []
    for title, key, text in columns:
        value = key(row)
        hint = (row.message or None) if title == "state" else None
        cells.append(tag("td", text(row), data_key="" if value is None else value, title=hint))
    for name in settings:
        value = row.params.get(name)
        cells.append(
            tag("td", numbers.short(value) if name in row.params else "", data_key="" if value is None else value)
        )
    return tag("tr", *cells, data_state=row.state, class_="best" if row.rank == 1 else None)


def _figures(plots: Mapping[str, bytes], notes: Mapping[str, str]) -> Iterable[Markup]:
    for title in dict.fromkeys((*plots, *notes)):
        note = [tag("figcaption", notes[title])] if title in notes else []
        shown = [tag("img", src=data_uri(plots[title], "image/png"), alt=title)] if title in plots else []
        yield tag("figure", tag("h3", title), *shown, *note)


def _gallery(walls: Sequence[Wall]) -> Markup:
    text = (
        "The same held-out images by each trial, best first. A click enlarges a cell beside bicubic and the original."
    )
    tabs = [
        tag("button", f"step {wall.step:,}", data_step=wall.step, type="button", aria_pressed=str(i == 0).lower())
        for i, wall in enumerate(walls)
    ]
    choice = [tag("div", *tabs, class_="steps", role="group", aria_label="step")]
    shown = [_wall(wall, hidden=i > 0) for i, wall in enumerate(walls)]
    return tag("section", tag("h2", "Samples"), tag("p", text), *choice, *shown, id="samples")


def _wall(wall: Wall, *, hidden: bool) -> Markup:
    titles = [*wall.references, *(f"trial {trial.number}" for trial in wall.trials)]
    hints = [*(None for _ in wall.references), *(numbers.settings(trial.params) for trial in wall.trials)]
    head = tag("tr", *(tag("th", title, title=hint) for title, hint in zip(titles, hints, strict=True)))
    columns = [*wall.references.values(), *wall.sr]
    lines = []
    for row, cells in enumerate(zip(*columns, strict=True), 1):
        texts = [f"{title}, image {row}, step {wall.step:,}" for title in titles]
        images = (
            tag("img", src=uri, alt=alt, width=wall.width, height=wall.height)
            for uri, alt in zip(cells, texts, strict=True)
        )
        lines.append(tag("tr", *(tag("td", tag("button", image, type="button")) for image in images)))
    table = tag("table", tag("thead", head), tag("tbody", *lines), data_references=len(wall.references))
    return tag("div", table, class_="wide wall", data_step=wall.step, hidden="hidden" if hidden else None)
