"""A generator as an MLflow model: this file is stored as code inside the model, so that no pickle is needed.

MLflow executes it when a model is saved and when one is loaded; the last line is how it asks for the model. It may only
use what `sisr.tracking.shipment` finds in its imports and sends along. Whoever only saves a model needs no torch, for
which somebody would wait at the end of a run: it is imported where it is used.
"""

import base64
import binascii
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
from PIL import Image


class GeneratorModel(mlflow.pyfunc.PythonModel):
    """Images in, `scale` times larger images out, of any size: pixels become pixels, image files become PNG files."""

    def load_context(self, context: Any) -> None:
        """Load generator.safetensors and config.json from the model's artifacts, onto a GPU where there is one.

        A recipe.py among them may run: MLflow is executing this very file from the same model already.
        """
        import torch

        from sisr.models.files import RECIPE
        from sisr.models.model import load_model

        folder = Path(context.artifacts["model"])
        code = map(str, folder.glob(RECIPE))
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._generator = load_model(folder, allowed=code).generator
        self._generator.to(self._device)

    # MLflow judges the annotation of `model_input` and warns about all that are true.
    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> Any:
        """Return the images upscaled.

        Args:
            context: Not used.
            model_input: Pixels (n, h, w, 3), RGB: integers 0 .. 255 or floats 0 .. 1. Or image files (PNG, JPEG, WebP,
                BMP, TIFF): the bytes of one; or several, also in base64, as a list, array or one-column table.
            params: Not used.

        Returns:
            Pixels (n, scale * h, scale * w, 3) uint8; or the bytes of a PNG file, or a list of such.

        Raises:
            ValueError: The input is neither, or an image can't be used.
        """
        if isinstance(model_input, bytes | str):
            return self._upscale_file(model_input)
        found = np.asarray(model_input)
        if found.ndim == 4 and found.shape[3] == 3 and found.dtype.kind in "uif":
            return self._upscale(found)
        if found.dtype.kind in "OSU" and found.size == max(found.shape, default=0):
            # Elements are taken from what came: an array of bytes drops zeros at the end of each.
            given: Iterable[Any] = model_input if isinstance(model_input, list | tuple) else found.ravel().tolist()
            return [self._upscale_file(file) for file in given]
        raise ValueError(f"expected pixels (n, h, w, 3) or image files, got {found.dtype} {found.shape}")

    def _upscale(self, images: np.ndarray) -> np.ndarray:
        import torch

        from sisr.inference import tiled

        largest = 1 if images.dtype.kind == "f" else 255
        if images.size and not (images.min() >= 0 and images.max() <= largest):
            raise ValueError(f"expected pixels from 0 to {largest}, got {images.min()} to {images.max()}")
        if 0 in images.shape:
            n, height, width = images.shape[:3]
            scale = self._generator.tiling.scale
            return np.zeros((n, scale * height, scale * width, 3), np.uint8)
        lr = torch.from_numpy(np.ascontiguousarray(images, np.float32) / np.float32(largest)).permute(0, 3, 1, 2)
        sr = tiled.upscale(self._generator, lr.to(self._device))
        return (sr.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    def _upscale_file(self, data: Any) -> bytes:
        if isinstance(data, str):
            try:
                data = base64.b64decode("".join(data.split()), validate=True)
            except binascii.Error as error:
                raise ValueError(f"an image file as text must be base64: {error}") from error
        if not isinstance(data, bytes):
            raise ValueError(f"expected the bytes of an image file, got {type(data).__name__}")
        from sisr.data.images import decode

        sr = self._upscale(decode(data)[None])[0]
        written = io.BytesIO()
        Image.fromarray(sr).save(written, format="PNG")
        return written.getvalue()


mlflow.models.set_model(GeneratorModel())
