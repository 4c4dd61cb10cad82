"""Which images a model has learned from, whether it is on this machine or in MLflow, which is imported only then."""

from collections.abc import Iterable
from pathlib import Path

from sisr.driver.models import IN_MLFLOW, locate
from sisr.evaluation import images
from sisr.evaluation.images import Learned


def of_models(specs: Iterable[str], runs: Path) -> dict[str, Learned]:
    """Return what each model but bicubic has learned from, by what names it.

    Raises:
        CheckpointError: There is no such model.
        TrackingError: It is in MLflow, which does not answer.
    """
    models = dict.fromkeys(spec for spec in specs if spec != "bicubic")
    return {
        spec: _of_mlflow(spec, runs) if spec.startswith(IN_MLFLOW) else images.of_folder(locate(spec, runs))
        for spec in models
    }


def _of_mlflow(spec: str, runs: Path) -> Learned:
    """Return what the folder of a model's run says, or, where that is not on this machine, its record in MLflow."""
    from sisr.tracking import address, candidate, selection

    with selection.asking(address.choose(None, runs)) as client:
        if (run := candidate.run_behind(client, spec)) is None:
            return Learned()
        if folder := selection.folder_of(run, runs):
            return images.of_folder(folder)
        return images.learned(candidate.record_of(client, run.info.run_id), candidate.image_hashes(client, run))
