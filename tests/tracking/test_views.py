"""The tables that MLflow's page opens with."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mlflow import MlflowClient
from mlflow.entities import Experiment

from sisr.tracking import views

VIEW = f"mlflow.sharedViewState.{views.KEY}"


def renewed(name: str, tags: dict[str, Any]) -> dict[str, str]:
    """Return the tags that an experiment gets of these."""
    written: dict[str, str] = {}
    client = SimpleNamespace(set_experiment_tag=lambda _, key, value: written.update({key: value}))
    views.renew(cast(MlflowClient, client), cast(Experiment, SimpleNamespace(name=name, tags=tags, experiment_id="1")))
    return written


def test_an_experiment_of_an_earlier_version_gets_the_columns_of_this_one_and_nothing_else() -> None:
    before = {**views.tags_of("sisr"), VIEW: '{"selectedColumns": ["metrics.`final/psnr_y`"]}', "theirs": "kept"}
    assert renewed("sisr", before) == {VIEW: views.tags_of("sisr")[VIEW]}
    assert renewed("sisr", views.tags_of("sisr")) == {}


def test_an_experiment_of_somebody_else_is_left_alone() -> None:
    assert renewed("theirs", {"mlflow.experimentKind": "genai_development"}) == {}


@pytest.mark.parametrize(
    ("name", "first"), [("sisr", "metrics.`val/psnr_y`"), ("sisr-comparisons", "tags.`sisr.verdicts`")]
)
def test_runs_are_shown_by_what_they_measured_and_comparisons_by_their_verdicts(name: str, first: str) -> None:
    assert json.loads(views.tags_of(name)[VIEW])["selectedColumns"][0] == first
