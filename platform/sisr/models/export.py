"""A model as one file for other programs: safetensors, PyTorch's pt2, ONNX.

A file is written under another name, read back by the program that it is for, compared with the generator on images of
three sizes, and put in its place only if both agree.
"""

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from sisr.disk import atomic
from sisr.errors import CheckpointError, ConfigError
from sisr.models.files import described, save_one_file
from sisr.models.model import Model, load_model
from sisr.models.weights import first_line
from sisr.models.zoo import Adapted
from sisr.recipe import Generator

TOLERANCE = 1e-4  # largest difference of sr, which is in [0, 1], that is still the same model
SHAPES = ((1, 16, 24), (2, 33, 17), (3, 40, 40))  # (n, h, w) of lr, on which both are compared
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Run = Callable[[Tensor], Tensor]  # lr -> sr


@dataclass(frozen=True)
class Difference:
    """How far what was written is from the generator."""

    shape: tuple[int, int, int, int]  # of lr
    largest: float  # of all |difference| of sr


def export(model: Model, target: Path, format_: str) -> list[Difference]:
    """Write a model as one file, replacing an older one, and return how it was checked.

    The formats are safetensors, pt2 and onnx. The last two take batches lr (n, 3, h, w), float32 in [0, 1], of any
    number and size; h and w must be multiples of the generator's `size_multiple`. The generator is moved to the CPU.

    Raises:
        CheckpointError: The model can't be written so, or what was written differs from it by more than `TOLERANCE`.
        ConfigError: The format needs packages that are missing, or more than is known about the model.
        DiskError: The file can't be written.
    """
    write, read = _WAYS[format_]
    require(format_)
    if format_ == "safetensors" and not _has_owner(model):
        raise ConfigError(f"{model.name} has no recipe, without which nobody can use its weights; export pt2 or onnx")
    model.generator.cpu().float().eval()
    with atomic.file(target) as unfinished, _quiet():
        try:
            write(model, unfinished)
        except OSError:
            raise
        except Exception as error:  # exporters raise whatever their parts raise
            raise CheckpointError(f"{model.name} can't be written as {format_}: {_reason(model, error)}") from error
        return _compare(model, read(unfinished), format_)


def _has_owner(model: Model) -> bool:
    """Return whether somebody builds the network for its weights: a recipe, or spandrel."""
    return "recipe" in model.meta or isinstance(model.generator, Adapted)


def _reason(model: Model, error: Exception) -> str:
    """Return in words why a format can't hold a model, and what can."""
    instead = "; --format safetensors holds the weights of any network" if _has_owner(model) else ""
    return f"{type(error).__name__}: {first_line(error)}{instead}"


def require(format_: str) -> None:
    """Raise `ConfigError` if the packages are missing that a format needs."""
    missing = [name for name in ONNX_PACKAGES if format_ == "onnx" and find_spec(name) is None]
    if missing:
        raise ConfigError(f"ONNX needs the package {', '.join(missing)}: pip install 'sisr[export]'")


def _write_safetensors(model: Model, path: Path) -> None:
    """Write the weights by the network's own names; what only spandrel recognises needs no description of ours."""
    save_one_file(path, model.generator, model.meta if "recipe" in model.meta else {})


def _write_pt2(model: Model, path: Path) -> None:
    program = torch.export.export(model.generator, (_example(model.generator),), dynamic_shapes=_sizes(model.generator))
    texts = described({**model.meta, "scale": model.scale})
    torch.export.save(program, path, extra_files={f"{name}.txt": text for name, text in texts.items()})


def _write_onnx(model: Model, path: Path) -> None:
    program = torch.onnx.export(
        model.generator,
        (_example(model.generator),),
        input_names=["lr"],
        output_names=["sr"],
        dynamic_shapes=_sizes(model.generator),
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(described({**model.meta, "scale": model.scale}))
    program.save(path)


def _read_onnx(path: Path) -> Run:
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda lr: torch.from_numpy(session.run(None, {"lr": lr.numpy()})[0])


_WAYS: dict[str, tuple[Callable[[Model, Path], None], Callable[[Path], Run]]] = {
    "safetensors": (_write_safetensors, lambda path: load_model(path).generator),
    "pt2": (_write_pt2, lambda path: torch.export.load(path).module()),
    "onnx": (_write_onnx, _read_onnx),
}


def _sizes(generator: Generator) -> tuple[dict[int, Any]]:
    """Return that the batch, height and width of lr may be any, in the exporter's words."""
    multiple = generator.tiling.size_multiple
    sides = [Dim(name) if multiple == 1 else multiple * Dim(name) for name in ("height", "width")]
    return ({0: Dim("batch"), 2: sides[0], 3: sides[1]},)


def _example(generator: Generator) -> Tensor:
    """Return images whose number and sides all differ, and none is 1: an exporter would take these for constants."""
    return torch.zeros(2, 3, generator.tiling.padded(12), generator.tiling.padded(10))


@torch.inference_mode()
def _compare(model: Model, written: Run, format_: str) -> list[Difference]:
    found = []
    for n, *sides in SHAPES:
        height, width = map(model.generator.tiling.padded, sides)
        lr = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(height))
        try:
            sr = written(lr)
        except Exception as error:  # a program may hold the size of the example as a constant
            raise CheckpointError(
                f"{model.name} was not exported: {format_} holds it for one size of lr only: {_reason(model, error)}"
            ) from error
        largest = (sr - model.generator(lr)).abs().max().item()
        found.append(Difference((n, 3, height, width), largest))
        if not largest <= TOLERANCE:
            raise CheckpointError(
                f"{model.name} was not exported: what {format_} makes of lr (n, c, h, w) = {found[-1].shape} differs "
                f"by up to {largest:.2g} from its own sr; allowed is {TOLERANCE:g}"
            )
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters say about their own insides from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
