"""The writing end of a sweep's ledger: what is decided and found is on the disk before anything follows from it."""

import time
from pathlib import Path
from typing import Any

from sisr.disk.journal import Journal
from sisr.sweep import plan as plans
from sisr.sweep import state
from sisr.sweep.state import LEDGER, Sweep


class Ledger:
    """The one writer of a sweep's ledger, and the sweep as its rows record it.

    Rows: `resume` (a driver begins; `format` is that of the rows that follow), `trial` (number and params of a new
    one), `start` (trial, until which step), `exploit` (trial copies donor's checkpoint of `step`, to go on until
    `until` with `params`), `end` (trial's state, step, curve, seconds, message, the name of its `error`, and whether a
    checkpoint of that step is `saved`) and `sweep` (finished or stopped).
    """

    def __init__(self, folder: Path) -> None:
        """Open the ledger of the sweep whose plan lies in `folder`.

        Raises:
            RunLockedError: Another process writes it.
            CheckpointError: The plan or a line is damaged.
        """
        self._journal = Journal(folder / LEDGER)
        try:
            plan = plans.read(folder)
            assert plan is not None, "the plan is written first"
            self.sweep: Sweep = state.replay(plan, state.records(folder))
            self.was_finished = self.sweep.state == "finished"  # before this driver: nothing was left to do
            self.write("resume", format=state.FORMAT)
        except BaseException:
            self._journal.close()
            raise

    def write(self, op: str, **fields: Any) -> None:
        """Record one row durably and take it into account."""
        row = {"op": op, "t": time.time_ns() // 1_000_000, **fields}
        self._journal.append(row)
        self._journal.flush()
        self.sweep.apply(row)

    def close(self) -> None:
        """Let another process write."""
        self._journal.close()
