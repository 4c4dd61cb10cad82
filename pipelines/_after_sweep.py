"""What is shown and done when a sweep has come to its end."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sisr.driver import next_steps
from sisr.sweep.plan import Plan
from sisr.sweep.report import board
from sisr.terminal.console import note, out, print_json, table, write

if TYPE_CHECKING:
    from sisr.cluster.tune import RayTune
    from sisr.driver.run.execute import Tracking
    from sisr.sweep.space.space import SearchSpace
    from sisr.sweep.state import Sweep

AfterSweep = Callable[[Plan, Path, str], dict[str, Any]]  # trains a full run: a sweep's plan, folder and recipe
SHOWN = 10  # trials in the table


def ended(
    sweep: "Sweep", space: "SearchSpace", folder: Path, recipe: str, then: "AfterSweep | None", json: bool
) -> dict[str, Any]:
    """Show and return a sweep that has come to its end, and the full run that follows it, if one does."""
    from sisr.driver.run.execute import summary
    from sisr.driver.sweep.execute import nothing_found

    if sweep.best() is None:
        raise nothing_found(sweep, folder)
    result: dict[str, Any] = {"folder": str(folder), **board.as_json(sweep, board.rows(sweep))}
    if not json:
        _show(sweep, space, folder, recipe)
    if then:
        result["run"] = then(sweep.plan, folder, recipe)
    if json:
        print_json(result)
    elif then:
        write(summary(result["run"]))
        next_steps.show(next_steps.after_run(Path(result["run"]["folder"])))
    return result


def _show(sweep: "Sweep", space: "SearchSpace", folder: Path, recipe: str) -> None:
    from sisr.driver.sweep.full_run import after_sweep, full_size, gained

    titles, cells = board.table(sweep, board.rows(sweep)[:SHOWN], out.width if out.is_terminal else 200)
    table(f"sweep {sweep.plan.name}: {len(cells)} of {len(sweep.trials)} trials, the best first", titles, cells)
    steps = next_steps.lines(after_sweep(sweep.plan, folder, recipe))
    for line in filter(None, [gained(sweep, space.defaults), *steps]):
        out.print(line, markup=False)
    write(f"  {full_size(sweep.plan)}; --dry-run checks it", hanging=0)


def train_best(
    plan: Plan, folder: Path, recipe: str, *, host: "RayTune", tracking: "Tracking", steps: int | None
) -> dict[str, Any]:
    """Train a full run with the best trial's settings, on the same images and with the same workers."""
    from sisr.cluster.train import Scaling, on_ray
    from sisr.driver.run.execute import execute
    from sisr.driver.run.workers import exactly
    from sisr.driver.sweep.files import BEST
    from sisr.driver.sweep.full_run import best_order, full_size

    order = best_order(plan, folder, recipe, host.workers, steps)
    note(f"training with {folder / BEST}, {full_size(plan, steps)}")
    scaling = Scaling(
        workers=exactly(host.workers),
        gpus_per_worker=host.gpus_per_worker,
        cpus_per_worker=host.cpus_per_worker if host.workers > 1 else None,
        address=host.address,
    )
    return execute(order, tracking, partial(on_ray, scaling))
