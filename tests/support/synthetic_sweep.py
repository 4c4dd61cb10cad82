"""Sweeps that were never run: a plan, a ledger and trial folders as a driver and its trials leave them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sisr.disk.atomic import write_json
from sisr.disk.run_folder import RunFolder
from sisr.sweep import plan as plans
from sisr.sweep.plan import Plan
from sisr.sweep.state import LEDGER
from sisr.training.validate import COLUMNS, HEADER, save_picture

CELL = 32  # px
SPACE = {
    "learning_rate": {"loguniform": [1e-5, 1e-2]},
    "adversarial_weight": {"loguniform": [1e-4, 1e-1]},
    "batch_size": {"choice": [8, 16, 32]},
    "beta1": {"uniform": [0.0, 0.9]},
    "loss": {"choice": ["vanilla", "relativistic"]},
}
RUNGS = (300, 900)
STEPS = 2700


class Writer:
    """Writes a sweep's folder row by row."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "name": folder.name,
            "recipe": "srgan_gp",
            "space": SPACE,
            "trials": 24,
            "data": "demo",
        }
        fields |= {"objective": ["val/score"], "mode": ["max"], "steps": STEPS} | changes
        if fields.get("scheduler", "asha") == "asha":
            fields.setdefault("scheduler_options", {"rungs": list(RUNGS)})
        fields["objective"], fields["mode"] = tuple(fields["objective"]), tuple(fields["mode"])
        self.folder, self.plan = folder, Plan(**fields)
        folder.mkdir(parents=True)
        plans.write(folder, self.plan, {})
        self.row(op="resume")

    def row(self, **row: Any) -> None:
        with open(self.folder / LEDGER, "a") as file:
            file.write(json.dumps({**row, "t": 1_700_000_000_000}) + "\n")

    def trial(self, number: int, params: dict[str, Any]) -> None:
        self.row(op="trial", trial=number, params=params)

    def segment(
        self, number: int, until: int, curve: list[tuple[int, dict[str, float]]], state: str = "paused"
    ) -> None:
        self.row(op="start", trial=number, until=until)
        step = curve[-1][0] if curve else 0
        self.row(op="end", trial=number, state=state, step=step, curve=curve, seconds=len(curve) * 12.5, message="")

    def run_folder(self, number: int, steps: list[int], rows: int = 2) -> RunFolder:
        """What a trial leaves: its record, its status and a picture for each step."""
        folder = RunFolder(self.folder / "trials" / f"{number:04d}")
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.path / "run.json", {"run": {"options": {"sample_rows": rows}}, "data": {"held_out": 16}})
        folder.write_status(state="finished", step=steps[-1], steps=STEPS, baseline={"psnr_y": 25.0, "ssim_y": 0.7})
        for step in steps:
            save_picture(sample(number, step, rows), folder.samples / "val" / f"step_{step:09d}.png")
        return folder


def sample(number: int, step: int, rows: int, side: int = CELL) -> Image.Image:
    """A sample picture whose cells are smooth colours; only SR depends on the trial and the step."""
    sheet = Image.new("RGB", (side * len(COLUMNS), HEADER + rows * side), "white")
    for row in range(rows):
        for column in range(len(COLUMNS)):
            seed = 10_000 * row + 1_000_000 * column + (100 * number + step if column == 2 else 0)
            values = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
            cell = Image.fromarray(values).resize((side, side), Image.Resampling.BICUBIC)
            sheet.paste(cell, (column * side, HEADER + row * side))
    return sheet


def draw(random: np.random.Generator) -> dict[str, Any]:
    return {
        "learning_rate": float(10 ** random.uniform(-5, -2)),
        "adversarial_weight": float(10 ** random.uniform(-4, -1)),
        "batch_size": int(random.choice([8, 16, 32])),
        "beta1": float(random.uniform(0, 0.9)),
        "loss": str(random.choice(["vanilla", "relativistic"])),
    }


def values(params: dict[str, Any], step: int, random: np.random.Generator) -> dict[str, float]:
    """What a trial measures: best at a learning rate of 3e-4; an adversarial weight trades PSNR for likeness."""
    off = (math.log10(params["learning_rate"]) - math.log10(3e-4)) ** 2
    gan = math.log10(params["adversarial_weight"]) + 2.5
    psnr = 27.5 - 0.8 * off - 0.5 * gan - 1.5 * math.exp(-step / 600) + 0.05 * random.normal()
    lpips = 0.30 + 0.03 * off - 0.05 * gan + 0.1 * math.exp(-step / 600) + 0.004 * random.normal()
    ssim = 0.70 + (psnr - 25) / 50
    score = (psnr - 25) / 2 + (0.4 - lpips) * 3
    return {"val/psnr_y": psnr, "val/ssim_y": ssim, "val/lpips": lpips, "val/score": score}


def asha(folder: Path, trials: int, *, finished: bool = True, pictures: int = 0, **changes: Any) -> Writer:
    """A sweep by asha; trials with a high learning rate diverge. `pictures`: trials with a folder."""
    writer, random = Writer(folder, trials=trials, **changes), np.random.default_rng(trials)
    drawn = [draw(random) for _ in range(trials)]
    if trials:
        drawn[0] |= {"learning_rate": 1e-4, "adversarial_weight": 1e-3, "batch_size": 16}
    for number, params in enumerate(drawn):
        writer.trial(number, params)
    going, low, folders = list(range(trials)), 0, 0
    for level in (*RUNGS, STEPS):
        scored = []
        for number in going:
            curve = [(s, values(drawn[number], s, random)) for s in range(low + 100, level + 1, 100)]
            if drawn[number]["learning_rate"] > 5e-3:
                writer.row(op="start", trial=number, until=level)
                reason = "loss is not finite <script>alert(1)</script>"
                writer.row(
                    op="end", trial=number, state="diverged", step=150, curve=curve[:1], seconds=3, message=reason
                )
                continue
            writer.segment(number, level, curve, "finished" if level == STEPS else "paused")
            scored.append((curve[-1][1]["val/score"], number))
            if folders < pictures or low:
                folders += 1
                writer.run_folder(number, [0, *(r for r in (*RUNGS, STEPS) if r <= level)])
        going, low = [number for _, number in sorted(scored, reverse=True)[: max(1, len(scored) // 3)]], level
    if finished:
        writer.row(op="sweep", state="finished")
    return writer


def pbt(folder: Path, trials: int = 8, interval: int = 300) -> Writer:
    """A sweep by population-based training: the worst quarter copies the best one at each interval."""
    changes: dict[str, Any] = {"scheduler": "pbt", "scheduler_options": {"interval": interval}}
    writer, random = Writer(folder, trials=trials, **changes), np.random.default_rng(1)
    params = [draw(random) for _ in range(trials)]
    for number in range(trials):
        params[number]["learning_rate"] = min(params[number]["learning_rate"], 3e-3)
        writer.trial(number, dict(params[number]))
    for step in range(interval, STEPS + 1, interval):
        curves = [[(step, values(p, step, random))] for p in params]
        for number, curve in enumerate(curves):
            writer.segment(number, step, curve, "finished" if step == STEPS else "paused")
        order = sorted(range(trials), key=lambda n: curves[n][0][1]["val/score"])
        for worst, donor in zip(order[: trials // 4], reversed(order), strict=False):
            if step < STEPS:
                changed = {"learning_rate": params[donor]["learning_rate"] * float(random.choice([0.8, 1.25]))}
                params[worst] = {**params[donor], **changed}
                writer.row(op="exploit", trial=worst, donor=donor, step=step, params=params[worst])
    writer.row(op="sweep", state="finished")
    return writer
