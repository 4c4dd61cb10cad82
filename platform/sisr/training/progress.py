"""How far a run is: written to the run's folder by its first worker, shown from there by whoever started it."""

import time
from collections import deque
from contextlib import suppress
from time import time as wall_clock
from typing import Any

import torch
from torch import Tensor

from sisr.data.batches import Prefetcher
from sisr.disk.run_folder import RunFolder
from sisr.metrics.catalogue import PSNR_Y
from sisr.training.device import peak_memory
from sisr.training.session import Session

WRITE_EVERY_S = 1.0
ESTIMATED_AFTER = 10  # steps, from which the length of the run is estimated
PATIENCE_S = 20.0  # or fewer steps, where they have taken as long
WINDOW = 32  # lines of metrics over which the time left is estimated, with all that lies between: validations, saving


class Progress:
    """Turns steps into rates and keeps the run's `status.json` current."""

    def __init__(
        self,
        folder: RunFolder,
        session: Session,
        steps: int,
        batch_size: int,
        start: int,
        prefetcher: Prefetcher,
        facts: dict[str, Any],
    ) -> None:
        """Start the clock at step `start` of `steps`; `facts` about the run are shown as they are."""
        self._folder, self._session = folder, session
        self._steps, self._batch_size, self._prefetcher = steps, batch_size, prefetcher
        self._fields: dict[str, Any] = {"state": "running", "step": start, "steps": steps, "workers": session.world}
        self._fields |= {"device": str(session.device), **facts}
        self._mark = (time.monotonic(), start, 0.0)
        self._lines: deque[tuple[float, int]] = deque([(time.monotonic(), start)], WINDOW)  # when which step was logged
        self._written = 0.0
        self._second: tuple[float, int] | None = None  # when this process began its second step, and steps done then
        earlier = folder.status() if start else {}
        self._fields |= {name: earlier[name] for name in ("validation", "validation_step", "best") if name in earlier}
        self._write(force=True)

    def validation_at(self, done: int) -> dict[str, float]:
        """Return the validation of exactly this step, or nothing."""
        return self._fields["validation"] if self._fields.get("validation_step") == done else {}

    @property
    def step(self) -> int:
        """Steps done when last logged."""
        return int(self._fields["step"])

    def stepped(self, done: int) -> None:
        """Show a step that is done: the first one at once, later ones once a second, and an estimate after some.

        The first step counts in the estimate only where it is the only one: it is slower than all others.
        """
        if self._session.rank != 0:
            return
        now, (then, step, _) = time.monotonic(), self._mark
        is_first = self._second is None
        if self._second is None:
            self._second = (self._settled(), done)
        if "estimate" not in self._fields:
            began, before = (then, step) if is_first else self._second
            if done - before >= ESTIMATED_AFTER - 1 or now - began >= PATIENCE_S:
                seconds = (self._settled() - began) / (done - before) * (self._steps - done)
                memory = peak_memory(self._session.device)
                self._fields["estimate"] = {"step": done, "seconds": seconds, "memory_bytes": memory}
                is_first = True  # shown at once
        rate = (done - step) * self._batch_size / max(now - then, 1e-9)
        self._fields |= {"step": done, "images_per_second": rate}
        self._estimate_rest(now, done)
        if self._second[1] == done:
            self._lines[0] = self._second  # the first step of a process is slower than all others
        self._write(force=is_first)

    def _estimate_rest(self, now: float, done: int) -> None:
        """Say how long the rest takes if the run goes on as it went lately, validations and all."""
        then, before = self._lines[0]
        if done > before:
            self._fields["eta_s"] = (now - then) / (done - before) * (self._steps - done)

    def _settled(self) -> float:
        """Return the time at which all that was asked of a GPU is done."""
        if self._session.device.type == "cuda":
            torch.cuda.synchronize(self._session.device)
        return time.monotonic()

    def logged(self, done: int, scalars: dict[str, float], norms: dict[str, Tensor]) -> dict[str, float]:
        """Return the values of one log line as plain numbers, with rate and waiting share, and show them."""
        values = scalars | {f"gradient_norm/{name}": float(value) for name, value in norms.items()}
        now, (then, step, waited) = time.monotonic(), self._mark
        elapsed = max(now - then, 1e-9)
        rate = (done - step) * self._batch_size / elapsed
        share = (self._prefetcher.waited_s - waited) / elapsed
        self._mark = (now, done, self._prefetcher.waited_s)
        self._estimate_rest(now, done)
        if done > self._lines[-1][1]:
            self._lines.append((now, done))
        self._fields |= {"step": done, "images_per_second": rate, "data_wait_share": share}
        self._fields["losses"] = values
        self._write()
        return {**values, "speed/images_per_second": rate, "speed/data_wait_share": share}

    def validated(self, done: int, values: dict[str, float], best: dict[str, Any]) -> None:
        """Show an evaluation; its time does not count as training time."""
        self._fields |= {"step": done, "validation": values, "validation_step": done, "best": best}
        self._write(force=True)
        if self._session.rank == 0:
            with suppress(OSError):
                self._folder.add_evaluation(done, values)
        self._mark = (time.monotonic(), done, self._prefetcher.waited_s)

    def finished(self, done: int, unimproved: int) -> dict[str, Any]:
        """Show and return the last status of a run that is complete; say why, where it ended before its last step."""
        best = self._fields.get("best", {})
        message = ""
        if done < self._steps:
            by = best.get("by", f"val/{PSNR_Y.name}")
            message = (
                f"ended by itself at step {done:,} of {self._steps:,}: {unimproved} evaluations without a better {by} "
                f"than {best[by]:.4g} at step {best['step']:,}, whose checkpoint is kept"
            )
        self._fields["unimproved"] = unimproved
        return self.ended("finished", done, message)

    def ended(self, state: str, done: int, message: str = "") -> dict[str, Any]:
        """Show and return the run's last status."""
        self._fields |= {"state": state, "step": done, "message": message, "eta_s": 0.0}
        self._write(force=True)
        return dict(self._fields)

    def _write(self, force: bool = False) -> None:
        now = time.monotonic()
        if self._session.rank == 0 and (force or now - self._written >= WRITE_EVERY_S):
            self._written = now
            # A full disk must not end a run that a freed disk would let finish; failed checkpoints warn.
            with suppress(OSError):
                self._fields["written_at"] = wall_clock()  # s; what a file's own time says is lost where it is copied
                self._folder.write_status(**self._fields)
