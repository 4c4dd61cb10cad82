"""Models measured on images, for tests that have one model."""

from typing import Any

from sisr.evaluation.measure import Measurement, Original, Upscaler, evaluate_models
from sisr.metrics.protocol import protocol


def evaluate_model(model: Upscaler, images: Any, scale: int, rule: str = "rgb8") -> Measurement:
    """Return a model's values on every image, each name, hr and perhaps lr, and their mean."""
    name = model if isinstance(model, str) else type(model).__name__
    return evaluate_models([(name, model)], [Original(*image) for image in images], scale, protocol(rule))[0]
