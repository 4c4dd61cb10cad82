"""A generator as an MLflow model: this file is stored as code inside the model, so that no pickle is needed.

MLflow executes it when a model is saved and when one is loaded; the last line is how it asks for the model.
"""

from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np


class Generator(mlflow.pyfunc.PythonModel):
    """Images in, `scale` times larger images out: any number of any size per call, all of one size."""

    def load_context(self, context: Any) -> None:
        """Load generator.safetensors and config.json from the model's artifacts.

        A recipe.py among them may run: MLflow is executing this very file from the same model already.
        """
        import torch

        from sisr import models

        device = "cuda" if torch.cuda.is_available() else "cpu"
        folder = Path(context.artifacts["model"])
        code = map(str, folder.glob(models.RECIPE))
        self._generator = models.load(folder, allowed=code).generator.to(device)

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Return sr (n, scale * h, scale * w, 3) uint8 RGB for lr (n, h, w, 3) uint8 RGB, or float in [0, 1]."""
        import torch

        from sisr.inference import upscale

        images = np.asarray(model_input)
        if images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"expected images as (n, h, w, 3), got {images.shape}")
        largest = 255 if images.dtype == np.uint8 else 1
        lr = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / largest
        sr = upscale(self._generator, lr.to(next(self._generator.parameters()).device))
        return (sr.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


mlflow.models.set_model(Generator())
