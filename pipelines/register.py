"""Give a run's model to others: measure it on images you name, and register it if it is better than what there is.

A run, or the best finished run or sweep trial of an experiment, becomes a version of a model in MLflow's registry and
its champion, if it is better than bicubic and than the present champion: on the same images, none of which it was
trained on and at least 6, beyond noise (95 %, paired over images). The present champion becomes `previous`;
--rollback swaps the two.
Exit codes: 0 registered, or champion already; 2 a wrong option, 3 unusable images, 4 no model or damaged files,
7 refused by the gate, 69 MLflow does not answer.
"""

from pathlib import Path
from typing import Annotated

import typer

from sisr.driver import models, next_steps
from sisr.errors import ConfigError, GateError
from sisr.metrics.catalogue import FURTHER, PSNR_Y, Mode
from sisr.pipelines._options import HR_IMAGES, Device, Json, Perceptual, ProtocolName, Recipes, Runs, TrackingUri
from sisr.terminal import cli, console

RUN = "A run's name or folder, a trial's folder, or an MLflow run's id."
MODE = "With --experiment: whether more or less of it is better; default: as is known of the metric, else max."
BY = (
    "The metric that decides, such as psnr_y, ssim_y, lpips, dists or score; default: score (how many doublings better "
    "than bicubic, in fidelity and perception together) for recipes with a judge, else psnr_y."
)
FORCE = "Register although the gate refuses; the reason is recorded. Damaged files are refused all the same."
LICENCE = "Licence of the images it was trained on, for the model's card."


def main(
    run: Annotated[str | None, typer.Argument(help=RUN)] = None,
    experiment: Annotated[str | None, typer.Option(help="Choose the best run or trial of this experiment.")] = None,
    metric: Annotated[str, typer.Option(help="With --experiment: what is best.")] = f"final/{PSNR_Y.name}",
    mode: Annotated[Mode | None, typer.Option(help=MODE)] = None,
    data: Annotated[str | None, typer.Option(help=f"Images of the gate. {HR_IMAGES}")] = None,
    protocol: ProtocolName = "rgb8",
    perceptual: Perceptual = "auto",
    by: Annotated[str | None, typer.Option(help=BY)] = None,
    model_name: Annotated[str | None, typer.Option(help="In the registry; default: the recipe's name.")] = None,
    data_licence: Annotated[str, typer.Option(metavar="TEXT", help=LICENCE)] = "",
    force: Annotated[str, typer.Option(metavar="REASON", help=FORCE)] = "",
    rollback: Annotated[bool, typer.Option("--rollback", help="Swap champion and previous.")] = False,
    recipe: Recipes = None,
    device: Device = "auto",
    runs: Runs = Path("runs"),
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Register a run's model, or go back to the previous one."""
    from sisr.tracking import address

    address.export()
    from sisr.driver import register
    from sisr.driver.registration_gate import Rules
    from sisr.evaluation.compare import measures

    if rollback:
        if run or experiment or data:
            raise ConfigError("--rollback only swaps aliases: leave out the run, --experiment and --data")
        result = register.roll_back(model_name, tracking_uri, runs)
    else:
        if data is None:
            raise ConfigError("name the images that decide with --data: a folder no model was trained on, or demo")
        further = by if by in {metric.name for metric in FURTHER} else ""
        measured = measures(protocol, perceptual, models.chosen_device(device), further or "")
        result = register.register(
            register.Registration(run, experiment, metric, mode, tracking_uri, runs, model_name, data_licence, force),
            Rules(data, measured, by, device, recipe or []),
        )
    if json:
        console.print_json(result)
    if result["state"] == "refused":
        raise GateError(register.failures(result))
    if not json:
        console.write(register.summary(result))
        next_steps.show(next_steps.after_registration(result, runs))


if __name__ == "__main__":
    cli.run(main)
