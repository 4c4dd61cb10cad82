"""Which recipes are measured, how large and in which ways: one, all, or a suite within a few minutes."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sisr import recipes
from sisr.config.settings import build
from sisr.disk.cache import expanded
from sisr.driver.run import execute
from sisr.errors import ConfigError, SisrError
from sisr.training import benchmark
from sisr.training.device import choose_device
from sisr.training.run import Options

# What the published sizes need beside: the phase that counts, and no box of one data set.
BESIDE: dict[str, dict[str, Any]] = {"encdec_gan": {"pretrain_steps": 0}, "srez": {"box": None}}
# On a CPU, where a step of the largest takes a minute: smaller ones of about a second.
_SMALL_VGG = {"hr_crop": 64, "batch_size": 2, "num_blocks": 2, "perceptual_layers": ["conv2_2"]}
ON_A_CPU: dict[str, dict[str, Any]] = {
    "encdec_gan": {"hr_crop": 64, "batch_size": 4},
    "esrgan": _SMALL_VGG,
    "finetune": {"hr_crop": 64, "batch_size": 2, "perceptual_layers": ["conv2_2"]},
    "pixelshuffle": {"hr_crop": 96, "blur_sigma_max": 0.0},
    "srez": {},
    "srgan_gp": _SMALL_VGG,
    "srresnet": {"hr_crop": 64, "batch_size": 4, "num_blocks": 4},
}
QUICK_FIRST = ("srez", "pixelshuffle", "srresnet", "encdec_gan", "esrgan", "srgan_gp")
NUM_IMAGES, IMAGE_SIDE = 10, 544  # px; a tenth is held out


def full_size(recipe: str) -> dict[str, Any]:
    """Return the settings with which a recipe is measured at its published size, without weights from the network."""
    known = recipes.load(recipe).Config.model_fields
    return BESIDE.get(recipe, {}) | ({"perceptual": "random"} if "perceptual" in known else {})


@dataclass(frozen=True)
class Case:
    """One recipe, trained in one way."""

    recipe: str
    variant: str  # how tables call the way
    values: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Cases in the order in which they matter, and how long each is measured."""

    cases: tuple[Case, ...]
    blocks: int
    block: int  # steps


def variants() -> dict[str, dict[str, Any]]:
    """Return the ways in which a suite trains a recipe, by what tables call them: their options."""
    compiled = {"precision": "bf16", "compile": True}
    captured = {"precision": "bf16", "capture": "auto"}
    plain = {"fp32": {"precision": "fp32"}, "bf16": {"precision": "bf16"}}
    return {**plain, "bf16 captured": captured, "bf16 compiled": compiled}


def suites() -> dict[str, Suite]:
    """Return the suites by name: `gpu`, the published sizes, and `smoke`, which any machine does in a minute."""
    # Compiling takes minutes for the largest networks: they come last, and are left out where time runs out.
    order = sorted(recipes.names(), key=lambda name: [*QUICK_FIRST, name].index(name))
    gpu = [Case(name, way, full_size(name), options) for way, options in variants().items() for name in order]
    smoke = [
        Case(name, way, recipes.load(name).tiny().model_dump(mode="json") | full_size(name), variants()[way])
        for way in ("fp32", "bf16")
        for name in ("srez", "pixelshuffle")
    ]
    return {"gpu": Suite(tuple(gpu), blocks=3, block=5), "smoke": Suite(tuple(smoke), blocks=1, block=2)}


def all_recipes(options: Mapping[str, Any]) -> list[Case]:
    """Return a case for each recipe: of published size on a GPU, smaller on a CPU."""
    smaller = choose_device().type == "cpu"
    sizes = {name: full_size(name) | (ON_A_CPU.get(name, {}) if smaller else {}) for name in recipes.names()}
    return [Case(name, "", values, options) for name, values in sizes.items()]


def basicsr_checkout(against: str) -> Path | None:
    """Return the folder that `basicsr=FOLDER` names, or None for `plain`, the hand-written loops.

    Raises:
        ConfigError: It is neither.
    """
    name, _, folder = against.partition("=")
    if name == "basicsr" and folder:
        return expanded(folder)
    if against == "plain":
        return None
    raise ConfigError(f"--against {against!r}: say plain, or basicsr=FOLDER with a checkout of BasicSR")


def measure(
    case: Case, data: str, blocks: int, block: int = benchmark.BLOCK, checkout: Path | None = None
) -> dict[str, Any]:
    """Return the speed of one case; see `sisr.training.benchmark.race`.

    Raises:
        ConfigError: A setting can't be used.
        DataError: The images can't be used.
    """
    steps = benchmark.steps_of(blocks, block)
    # No evaluation but the last, which is not timed; the first would only delay the start.
    options = {"evaluate_every": steps, "validation_side": 64, "log_every": block, "perceptual": "none", **case.options}
    with tempfile.TemporaryDirectory(prefix="sisr-") as folder:
        order = execute.Order(
            recipe=case.recipe,
            values={**case.values, "steps": steps},
            options=build(Options, options, source="--option"),
            data=data,
            runs=Path(folder),
        )
        run, runs_folder, _ = execute.prepare(order)
        return benchmark.race(run, runs_folder, blocks, block, checkout)


def run_suite(name: str, minutes: float, on_result: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measure a suite's cases one after the other until the time is used up; the rest is named as left out.

    Args:
        name: Of the suite.
        minutes: After which no further case is begun.
        on_result: Gets the whole result so far after each case.

    Raises:
        ConfigError: There is no such suite.
    """
    known = suites()
    if name not in known:
        raise ConfigError(f"no suite {name!r}; there are {', '.join(known)}")
    suite, begun, device = known[name], time.monotonic(), choose_device()
    side = 8192 if device.type == "cuda" else 512
    result: dict[str, Any] = {"suite": name, **_facts(device), "peaks": benchmark.peaks(device, side), "cases": []}
    result |= {"left_out": []}
    with tempfile.TemporaryDirectory(prefix="sisr-") as folder:
        images = _images(Path(folder))
        flops: dict[str, int] = {}
        for case in suite.cases:
            if time.monotonic() - begun > 60 * minutes:
                result["left_out"].append(f"{case.recipe} {case.variant}")
                continue
            result["cases"].append(_measured(case, images, suite, device, flops, result["peaks"]))
            result["seconds"] = time.monotonic() - begun
            on_result(result)
    return result


def _measured(
    case: Case, images: str, suite: Suite, device: torch.device, flops: dict[str, int], peaks: Mapping[str, float]
) -> dict[str, Any]:
    """Return one case's figures, or what went wrong with it: the others are still worth having."""
    named = {"recipe": case.recipe, "variant": case.variant}
    try:
        if case.recipe not in flops:
            flops[case.recipe] = benchmark.flops_of_step(recipes.load(case.recipe), case.values, device)
        found = measure(case, images, suite.blocks, suite.block)
    except (SisrError, RuntimeError) as error:
        return {**named, "error": f"{type(error).__name__}: {error}"}
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if case.options.get("compile") or case.options.get("capture"):
            torch.compiler.reset()  # it counts how often it compiles the same line, and gives up
    reached = flops[case.recipe] / found["step_ms"] / 1e9
    tf32 = found["precision"] == "fp32" and device.type == "cuda" and torch.backends.cudnn.allow_tf32
    peak = "tf32" if tf32 else found["precision"]
    return {**named, **found, "arithmetic": peak, "tflops": reached, "share_of_peak": reached / peaks[peak]}


def _facts(device: torch.device) -> dict[str, Any]:
    """Return what a reader must know of the machine."""
    facts: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if device.type == "cuda":
        facts |= {"device": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
        facts |= {"cudnn": torch.backends.cudnn.version(), "convolutions_in_tf32": torch.backends.cudnn.allow_tf32}
    else:
        facts |= {"device": "CPU"}
    return facts


def _images(folder: Path) -> str:
    """Fill a folder with pictures large enough for every recipe's crop; speed does not depend on what they show."""
    for number in range(NUM_IMAGES):
        noise = np.random.default_rng(number).integers(0, 256, (IMAGE_SIDE // 16, IMAGE_SIDE // 16, 3), np.uint8)
        Image.fromarray(noise.repeat(16, 0).repeat(16, 1)).save(folder / f"{number:02d}.png")
    return str(folder)


def rows(cases: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Yield each case as a row of `HEADER`."""
    for case in cases:
        if "error" in case:
            yield [case["recipe"], case["variant"], case["error"].splitlines()[0][:60], *[""] * (len(HEADER) - 3)]
            continue
        shown = [f"{1000 / case['step_ms']:.4g}", f"{case['images_per_second']:.4g}", f"{case['steps_per_hour']:.4g}"]
        shown += [_cell(case, name, form) for name, form in OPTIONAL.items()]
        yield [case["recipe"], case.get("variant", case["precision"]), *shown]


HEADER = [
    "recipe",
    "variant",
    "steps/s",
    "images/s",
    "batches/hour",
    "GiB",
    "of the peak",
    "to plain",
    "waits for data",
]
OPTIONAL = {"memory_gib": ".3g", "share_of_peak": ".1%", "ratio_to_plain": ".3f", "data_wait_share": ".1%"}


def _cell(case: Mapping[str, Any], name: str, form: str) -> str:
    return format(case[name], form) if name in case else ""
