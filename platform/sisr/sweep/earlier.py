"""Trials of earlier sweeps from which a sweep learns: in its plan, so that its search stays a pure function."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from sisr.config.settings import Settings

Curve = tuple[tuple[int, dict[str, float]], ...]


class Earlier(Settings):
    """One trial of an earlier sweep, as a point of the present space."""

    sweep: str  # its name
    trial: int
    fingerprint: str  # of that sweep's images
    params: dict[str, Any]  # a value for every swept setting of the present sweep
    curve: Curve = Field((), description="its evaluations up to the present sweep's steps: (step, objectives)")
    unlike: str = ""  # why its values don't compare with this sweep's, though its images were the same; empty: they do
    lost: bool = False  # it diverged or failed
    best: bool = False  # of its sweep's points that lie in the present space


def compared(earlier: Iterable[Earlier], fingerprint: str) -> list[Earlier]:
    """Return the trials whose values compare with those of a sweep on the images of `fingerprint`."""
    return [one for one in earlier if not one.unlike and one.fingerprint == fingerprint]


def first_points(earlier: Iterable[Earlier], baseline: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return what is tried first: the recipe's own settings, where the space has them, then each earlier best."""
    points = [dict(baseline)] if baseline else []
    for one in earlier:
        if one.best and one.params not in points:
            points.append(dict(one.params))
    return points


def described(earlier: Iterable[Earlier], fingerprint: str) -> list[str]:
    """Return a line for each earlier sweep: what is taken from it."""
    by_sweep: dict[str, list[Earlier]] = {}
    for one in earlier:
        by_sweep.setdefault(one.sweep, []).append(one)
    lines = []
    for name, trials in by_sweep.items():
        best = next(one for one in trials if one.best)
        usable = compared(trials, fingerprint)
        reason = next((one.unlike for one in trials if one.unlike), "") or "its images are others"
        alone = f"its values don't compare ({reason})"
        taken = f"the values of {len(usable)} trials" if usable else alone
        if usable and len(usable) < len(trials):
            taken += f", not of {len(trials) - len(usable)} ({reason})"
        lines.append(f"learning from {name}: {taken}; the settings of its trial {best.trial} are tried early")
    return lines
