"""How fast a model enlarges here, and so which pictures are done in time."""

import time
from concurrent.futures import ThreadPoolExecutor

import torch

from sisr.inference import tiled
from sisr.inference.probe import grey_lr
from sisr.models.model import Model

SIDE = 128  # px, of the picture that is timed before a model is served
REMEMBERED = 0.8  # of the pace so far, at each new picture
LEAST = 64**2  # px, of a picture that says something about the pace
SURE = 0.8  # of the time allowed is what a picture may be expected to take


class Pace:
    """A model's time per pixel of what it is sent."""

    def __init__(self, seconds_per_px: float) -> None:
        self._seconds_per_px = seconds_per_px

    def took(self, num_px: int, seconds: float) -> None:
        """Learn from a picture that was enlarged."""
        if num_px >= LEAST:
            self._seconds_per_px = REMEMBERED * self._seconds_per_px + (1 - REMEMBERED) * seconds / num_px

    def seconds(self, num_px: int) -> float:
        """Return how long a picture is expected to take."""
        return num_px * self._seconds_per_px

    def most_pixels(self, seconds: float) -> int:
        """Return how large a picture may be to be done in time."""
        return int(SURE * seconds / self._seconds_per_px)


def measured(model: Model, device: torch.device, threads: int | None) -> Pace:
    """Return a model's pace with so many CPU threads; None: torch's own choice."""
    lr = grey_lr(model.generator, SIDE, SIDE)

    def timed() -> float:
        if threads is not None:
            torch.set_num_threads(threads)
        tiled.upscale(model.generator, lr[..., : SIDE // 4, : SIDE // 4])  # the first call is slow
        begun = time.perf_counter()
        float(tiled.upscale(model.generator, lr).mean())  # waits for the device
        return time.perf_counter() - begun

    with ThreadPoolExecutor(1) as alone:  # the number of threads is each thread's own
        return Pace(alone.submit(timed).result() / SIDE**2)
