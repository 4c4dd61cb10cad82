"""Which of the models measured is offered to be registered."""

from typing import Any

import pytest

from sisr import recipes
from sisr.driver.promising import best_candidate
from sisr.evaluation.compare import Measures
from sisr.evaluation.measure import ImageResult, Measurement
from sisr.inference.tiled import Bicubic
from sisr.metrics.protocol import protocol
from sisr.models.model import Model

BY = Measures(protocol("rgb8"), None)
OURS: dict[str, Any] = {"recipe": "pixelshuffle", "config": {}}


def model(name: str, meta: dict[str, Any]) -> Model:
    return Model(name, Bicubic(4), meta)


def measured(name: str, *psnr: float) -> Measurement:
    return Measurement(name, "rgb8|...", [ImageResult(f"{i}.png", {"psnr_y": value}) for i, value in enumerate(psnr)])


BICUBIC = measured("bicubic", *[28.0, 30.0] * 3)


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ({"a": 0.5, "b": 0.7}, "b"),
        ({"a": 0.5, "b": -0.7}, "a"),
        ({"a": -0.5}, ""),
        ({"a": 0.5, "other.pth": 0.7}, "a"),
        ({"a": 0.5, "models:/x@champion": 0.7}, "a"),
    ],
)
def test_the_best_that_beats_bicubic_and_is_a_run_of_ours_is_offered(values: dict[str, float], best: str) -> None:
    models = [model(name, {} if name == "other.pth" else OURS) for name in values]
    found = [measured(name, *[28.0 + gain, 30.0 + gain] * 3) for name, gain in values.items()]
    assert best_candidate(models, [*found, BICUBIC], BY) == best
    assert best_candidate(models, found, BY) == "", "bicubic was not measured"


def test_what_chance_explains_is_not_offered() -> None:
    assert best_candidate([model("a", OURS)], [measured("a", *[29.0, 29.2] * 3), BICUBIC], BY) == ""
    few = [measured("a", 28.5, 30.5), measured("bicubic", 28.0, 30.0)]
    assert best_candidate([model("a", OURS)], few, BY) == ""


def test_a_recipe_with_a_judge_is_judged_by_psnr_only_where_no_distance_is_measured() -> None:
    gan = {"recipe": "srgan_gp", "config": recipes.load("srgan_gp").tiny().model_dump(mode="json")}
    assert best_candidate([model("gan", gan)], [measured("gan", *[28.4, 30.4] * 3), BICUBIC], BY) == "gan"
