"""Models measured on images: shared by the verbs that compare models."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sisr.data.reading import ImageFile
    from sisr.models import Model
    from sisr.training.evaluate import Report

PROTOCOL = "rgb8: LR and SR are 8-bit RGB. y: luma alone, LR kept in double."
DATA = "Folder of HR images (all of it), one image file, or demo, celeba:PATH, div2k:PATH (their held-out images)."


def find(data: str) -> "list[ImageFile]":
    """Return the images that `data` names; see `DATA`.

    Raises:
        DataError: There are none.
    """
    from sisr.data.reading import ImageFile
    from sisr.data.sources import find_images, open_source

    path = Path(data)
    if path.is_file():
        return [ImageFile(path.resolve(), path.name)]
    return find_images(path) if data and path.is_dir() else open_source(data).validation


def decoded(files: "list[ImageFile]", advance: Any) -> "Iterator[tuple[str, NDArray[np.uint8]]]":
    """Yield names and pixels: (h, w, 3), or (h, w) where the file is grey.

    A bad file stops it: no mean silently leaves one out.
    """
    from sisr.data.images import RefusedError, decode_with_alpha, flatten

    for file in files:
        if file.refused:
            raise RefusedError(*file.refused, file.path)
        picture = decode_with_alpha(file.path)
        yield file.name, picture.pixels[..., 0] if picture.grey and picture.alpha is None else flatten(picture)
        advance(note=file.name)


def measure(model: "Model", images: "Iterator[tuple[str, NDArray[np.uint8]]]", rule: Any) -> "Report":
    """Return a model's values on images under a protocol; bicubic's are those of MATLAB."""
    from sisr.training.evaluate import evaluate_model

    # MATLAB's own bicubic rounds between the two axes; the network of the same name can't.
    upscaler = "bicubic" if model.name == "bicubic" else model.generator
    return evaluate_model(upscaler, images, model.scale, rule, name=model.name)  # type: ignore[arg-type]
