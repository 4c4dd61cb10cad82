"""A sweep's numbers in as few characters as they need."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sisr.metrics.catalogue import metric as catalogued
from sisr.metrics.catalogue import name_in, value_of
from sisr.sweep.state import Sweep, Trial


def short(value: Any) -> str:
    """Return a setting's value in 3 significant digits and the shorter notation: 3e-4, 0.05, 16, true, [0.9, 0.99]."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _short_float(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(short, value)) + "]"
    return "null" if value is None else str(value)


def _short_float(value: float) -> str:
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    scientific = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    plain = f"{value:.{max(0, 2 - int(exponent))}f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return plain if len(plain) <= len(scientific) else scientific


def settings(params: Mapping[str, Any]) -> str:
    """Return settings in one line, such as `learning_rate=3e-4 batch_size=16`; spaces are only between them."""
    return " ".join(f"{name}={short(value).replace(' ', '')}" for name, value in params.items())


def own(sweep: Sweep, metric: str) -> str:
    """Return `metric`, or where it stands for any distance the one that most of the trials measured."""
    found = Counter(name_in(trial.values, metric) for trial in sweep.trials if trial.values)
    return found.most_common(1)[0][0] if found else metric


def metric_name(metric: str) -> str:
    """Return what a metric is called where only validations are shown."""
    return metric.removeprefix("val/")


def title(metric: str) -> str:
    """Return what a metric is called for people: `PSNR-Y`, on a validation set of its own `set5 PSNR-Y`."""
    of_set, _, _ = metric_name(metric).rpartition("/")
    return f"{of_set} {catalogued(metric).title}".lstrip()


def number(metric: str, value: float | None) -> str:
    """Return a metric's value in the digits that mean something: 27.31 for dB, 0.7756 for the others."""
    return "" if value is None else catalogued(metric).text(value, unit=False)


def named(metric: str, value: float, *, signed: bool = False) -> str:
    """Return a metric's name and value, or a difference of two with its sign, such as `PSNR-Y 26.50 dB`."""
    return f"{title(metric)} {catalogued(metric).text(value, signed=signed)}"


def listed(metrics: Iterable[str], values: Mapping[str, Any]) -> str:
    """Return the names and values of those metrics that there are, with commas between them."""
    found = ((name_in(values, metric), value_of(values, metric)) for metric in metrics)
    return ", ".join(named(metric, value) for metric, value in found if value is not None)


def state_of(sweep: Sweep, trial: Trial) -> str:
    """Return a trial's state in the user's words: what stands still in a finished sweep is pruned."""
    pruned = trial.state == "paused" and sweep.state == "finished"
    return "pruned" if pruned else trial.state
