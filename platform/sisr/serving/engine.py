"""A model at work for many requests: how many wait, how long each may take, and how one model follows another.

Work for which nobody waits any more is ended between two layers of the generator, or two tiles. A picture that would
not be done in time is refused before it waits.
"""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import IO

import torch

from sisr.data.pairs import header_size
from sisr.data.writing import Saving
from sisr.errors import DataError, OutOfMemoryError
from sisr.inference.enlarge import Enlarged, enlarge_bytes
from sisr.inference.tiled import memory_budget
from sisr.models.model import Model
from sisr.serving.interruption import Interruption, make_interruptible
from sisr.serving.limits import Limits, Refusal, busy, refusal_of
from sisr.serving.opening import open_release
from sisr.serving.pace import Pace, measured
from sisr.serving.release import Release

REMEMBERED = 0.9  # of the mean time per picture, at each new picture


@dataclass(frozen=True)
class Serving:
    """A release in use."""

    release: Release
    model: Model
    pace: Pace


@dataclass(frozen=True)
class Upscaled:
    """The answer to one request."""

    data: bytes  # an image file
    serving: Serving
    size: Enlarged
    waited_s: float
    computed_s: float


@dataclass
class _Job:
    """One picture on its way."""

    file: IO[bytes]  # an image file, read when its turn comes: hundreds may wait
    suffix: str
    quality: int
    interruption: Interruption = field(default_factory=Interruption)
    begun: float | None = None  # on time.monotonic's clock


class Engine:
    """Computes what requests ask for, a few at a time, with the model of the moment.

    Args:
        release: What to serve at first.
        device: Where.
        limits: What it takes on.
        at_once: Pictures computed at the same time.
        threads: CPU threads for each of them; None: torch's own choice.

    Raises:
        CheckpointError: The release can't be used.
    """

    def __init__(
        self, release: Release, device: torch.device, limits: Limits, at_once: int = 1, threads: int | None = None
    ) -> None:
        self.limits, self.device, self._threads = limits, device, threads
        self.serving = self._opened(release)
        self._at_once, self._present, self._receiving, self._mean_s = at_once, 0, 0, 1.0
        initializer = None if threads is None else lambda: torch.set_num_threads(threads)
        self._pool = ThreadPoolExecutor(at_once, "upscale", initializer)

    @property
    def takes(self) -> Limits:
        """What it takes on now: of pictures those that this model is expected to enlarge in time."""
        most = min(self.limits.max_pixels, self.serving.pace.most_pixels(self.limits.time_s))
        return replace(self.limits, max_pixels=most)

    @property
    def waiting(self) -> int:
        """Requests that wait, besides those being computed."""
        return max(0, self._present - self._at_once)

    @property
    def is_full(self) -> bool:
        """Whether the next request would be refused."""
        return self._present >= self._at_once + self.limits.queue

    def replace(self, release: Release) -> None:
        """Serve another release from now on; requests that have begun end with the old one. Slow: for a thread.

        Raises:
            CheckpointError: It can't be used; the old one goes on.
        """
        self.serving = self._opened(release)

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Count a request whose body arrives in the block; it holds no place among those that wait.

        Raises:
            Refusal: Too many arrive, or it would find no place.
        """
        if self._receiving >= self.limits.receiving:
            detail = f"{self._receiving} requests are arriving, which is the most"
            raise self._busy(detail, receiving=self.limits.receiving)
        self._refuse_if_full()
        self._receiving += 1
        try:
            yield
        finally:
            self._receiving -= 1

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place among the requests that wait or are computed for the block.

        Raises:
            Refusal: There is none left.
        """
        self._refuse_if_full()
        self._present += 1
        try:
            yield
        finally:
            self._present -= 1

    async def upscale(self, file: IO[bytes], suffix: str, quality: int) -> Upscaled:
        """Return an image file enlarged; to be called while holding a place.

        Args:
            file: An image file; closing it must wait until this ends.
            suffix: .png, .jpg or .webp: the format to return.
            quality: Of JPEG and WebP, 1 .. 100.

        Raises:
            Refusal: It can't be used, or is not done in time, or would not be.
        """
        num_px = self._refuse_if_slow(file)
        job = _Job(file, suffix, quality)
        asked = time.monotonic()
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._compute, job)
        try:
            async with asyncio.timeout(self.limits.time_s):
                serving, result, size = await future
        except TimeoutError:
            raise self._too_slow(job) from None
        except DataError as error:
            raise refusal_of(error, self.limits) from error
        except OutOfMemoryError as error:
            raise self._busy(f"no memory for {error}") from error
        finally:
            job.interruption.set()  # after a timeout, or where the client has gone: free the thread for others
        assert job.begun is not None
        computed = time.monotonic() - job.begun
        self._mean_s = REMEMBERED * self._mean_s + (1 - REMEMBERED) * computed
        serving.pace.took(num_px, computed)
        return Upscaled(result, serving, size, job.begun - asked, computed)

    def _compute(self, job: _Job) -> tuple[Serving, bytes, Enlarged]:
        job.begun, serving = time.monotonic(), self.serving
        with job.interruption:
            result, size = enlarge_bytes(
                serving.model.generator,
                job.file.read(),
                job.suffix,
                saving=Saving(job.quality, quick=True),
                max_pixels=self.limits.max_pixels,
                memory=memory_budget(serving.model.generator) / self._at_once,
                on_pass=job.interruption.check,
            )
        return serving, result, size

    def _refuse_if_slow(self, file: IO[bytes]) -> int:
        """Return how many pixels a picture has, 0 where its header can't be read.

        Raises:
            Refusal: It would not be done in time.
        """
        width, height = header_size(file) or (0, 0)
        file.seek(0)
        pace, most = self.serving.pace, self.takes.max_pixels
        if most < width * height <= self.limits.max_pixels:
            detail = (
                f"{width}x{height} px would take about {pace.seconds(width * height):.0f} s of the "
                f"{self.limits.time_s:g} s that are allowed; send at most {most / 1e6:.2g} megapixels"
            )
            limit = {"max_pixels": most, "time_s": self.limits.time_s}
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too many pixels", detail, limit=limit)
        return width * height

    def _opened(self, release: Release) -> Serving:
        model = open_release(release, self.device)
        make_interruptible(model.generator)
        return Serving(release, model, measured(model, self.device, self._threads))

    def _refuse_if_full(self) -> None:
        if self.is_full:
            raise self._busy(f"{self.waiting} requests wait already, which is the most")

    def _too_slow(self, job: _Job) -> Refusal:
        limit = {"time_s": self.limits.time_s}
        if job.begun is None:
            return self._busy(f"its turn did not come within {self.limits.time_s:g} s", **limit)
        detail = f"the picture was not done within {self.limits.time_s:g} s; send a smaller one"
        return Refusal(HTTPStatus.GATEWAY_TIMEOUT, "took too long", detail, limit=limit)

    def _busy(self, detail: str, **limit: float) -> Refusal:
        seconds = self._mean_s * self._present / self._at_once
        return busy(detail, seconds, **(limit or {"queue": self.limits.queue}))
