"""What trials can be compared by: the metrics that their validation logs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sisr.config.wording import did_you_mean
from sisr.metrics.catalogue import AT_VALIDATION, DISTANCES, FURTHER, METRICS, Mode


@dataclass(frozen=True)
class Logged:
    """What decides which metrics a validation logs."""

    further: tuple[str, ...] = ()  # metrics that `--option metrics=` asks for
    sets: tuple[str, ...] = ()  # names of further validation sets

    @property
    def objectives(self) -> dict[str, Mode]:
        """Each metric, such as `val/psnr_y` or `val/set5/psnr_y`, and where better lies."""
        metrics = (*AT_VALIDATION, *DISTANCES, *(METRICS[name] for name in self.further))
        prefixes = ("", *(f"{name}/" for name in self.sets))
        return {f"val/{prefix}{metric.name}": metric.mode for prefix in prefixes for metric in metrics}

    def problem(self, name: str) -> str:
        """Return why no validation logs a metric of this name, and what would be right."""
        metric = name.rpartition("/")[2]
        top, *inside = name.split("/")[:-1] or [""]
        if top == "val" and metric in {each.name for each in FURTHER} - set(self.further):
            return f"no trial measures '{name}': --option metrics={','.join([*self.further, metric])} does"
        if top == "val" and len(inside) == 1 and f"val/{metric}" in self.objectives:
            return f"there is no validation set '{inside[0]}': --validation {inside[0]}=PATH names its images"
        hint = did_you_mean(name, self.objectives) or "all are " + ", ".join(self.objectives)
        return f"no validation logs '{name}'; {hint}"


def direction_problems(names: Iterable[str], modes: Iterable[Mode], known: Mapping[str, Mode]) -> Iterator[str]:
    """Yield which of some modes is not where better lies for its metric."""
    for name, mode in zip(names, modes, strict=True):
        right = known.get(name, mode)
        if mode != right:
            better = "larger" if right == "max" else "smaller"
            yield f"{better} is better for {name}; write {right}, or leave mode out"
