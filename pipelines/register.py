"""Give a run's model to others: measure it on images you name, and register it if it is better than what there is.

A run, or the best finished run or sweep trial of an experiment, becomes a version of a model in MLflow's registry and
its champion, if it is better than bicubic and than the present champion: on the same images, beyond noise (95 %, paired
bootstrap over images). The present champion becomes `previous`; --rollback swaps the two.
Exit codes: 0 registered, or champion already; 2 a wrong option, 3 unusable images, 4 no model or damaged files,
7 refused by the gate, 69 MLflow does not answer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from sisr.pipelines import _measuring, _models

from sisr.metrics.catalogue import PSNR_Y

if TYPE_CHECKING:
    from sisr.pipelines._gate import Rules, Verdict

    from sisr.tracking.card import Facts

RUN = "A run's name or folder, a trial's folder, or an MLflow run's id."
FORCE = "Register although the gate refuses; the reason is recorded. Damaged files are refused all the same."
LICENCE = "Licence of the images it was trained on, for the model's card."


def main(
    run: Annotated[str | None, typer.Argument(help=RUN)] = None,
    experiment: Annotated[str | None, typer.Option(help="Choose the best run or trial of this experiment.")] = None,
    metric: Annotated[str, typer.Option(help="With --experiment: what is best.")] = f"final/{PSNR_Y.name}",
    mode: Annotated[Literal["max", "min"], typer.Option(help="With --experiment: which end is good.")] = "max",
    data: Annotated[str | None, typer.Option(help=f"Images of the gate. {_measuring.DATA}")] = None,
    protocol: Annotated[str, typer.Option(help=_measuring.PROTOCOL)] = "rgb8",
    by: Annotated[str, typer.Option(help="The gate's metric.")] = PSNR_Y.name,
    model_name: Annotated[str | None, typer.Option(help="In the registry; default: the recipe's name.")] = None,
    data_licence: Annotated[str, typer.Option(metavar="TEXT", help=LICENCE)] = "",
    force: Annotated[str, typer.Option(metavar="REASON", help=FORCE)] = "",
    rollback: Annotated[bool, typer.Option("--rollback", help="Swap champion and previous.")] = False,
    recipe: Annotated[list[str] | None, typer.Option(help=_models.RECIPE)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    runs: Annotated[Path, typer.Option(help="Folder that holds all runs.")] = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow's server or database; default: MLFLOW_TRACKING_URI, else as the run.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Register a run's model, or go back to the previous one."""
    from sisr.errors import ConfigError
    from sisr.terminal.console import out, print_json
    from sisr.tracking import address

    address.export()
    if rollback:
        if run or experiment or data:
            raise ConfigError("--rollback only swaps aliases: leave out the run, --experiment and --data")
        result = _roll_back(model_name, tracking_uri, runs)
    else:
        choice = Choice(run, experiment, metric, mode, tracking_uri, runs)
        statement = Statement(model_name, data_licence, force)
        result = _register(choice, _rules(data, protocol, by, device, recipe or []), statement)
    if json:
        print_json(result)
    else:
        out.print(_summary(result), markup=False)


@dataclass(frozen=True)
class Choice:
    """Which run, and where it is looked for."""

    run: str | None
    experiment: str | None
    metric: str
    mode: Literal["max", "min"]
    tracking_uri: str | None
    runs: Path


@dataclass(frozen=True)
class Statement:
    """What the user says about the model."""

    name: str | None
    data_licence: str
    force: str


def _rules(data: str | None, protocol: str, by: str, device: str, recipes: list[str]) -> "Rules":
    from sisr.pipelines._gate import Rules

    from sisr.errors import ConfigError
    from sisr.evaluation import gate
    from sisr.metrics import protocol as protocols

    if data is None:
        raise ConfigError("name the images that decide with --data: a folder no model was trained on, or demo")
    rule = protocols.protocol(protocol)
    gate.check_metric(by, rule)
    return Rules(data, rule, by, device, recipes)


def _register(choice: Choice, rules: "Rules", said: Statement) -> dict[str, Any]:
    """Pass a run's model through the gate until it is refused, or becomes champion in the place of what it beat."""
    from sisr.pipelines import _card
    from sisr.pipelines._gate import Gate

    from sisr.errors import ConfigError, GateError
    from sisr.tracking import address, candidate, champion, registry, selection

    if (choice.run is None) == (choice.experiment is None):
        raise ConfigError("say what to register: a run, or --experiment NAME for the best of its runs (or --rollback)")
    folder = None if choice.run is None else selection.locate(choice.run, choice.runs)
    server = address.choose(choice.tracking_uri, choice.runs, folder)
    with selection.asking(server) as client:
        found = candidate.fetch(client, server, _run_id(client, choice, folder, server), choice.runs)
        gate = Gate(found, rules, choice.runs)
        name = champion.check_name(said.name or str(gate.model.meta["recipe"]))
        while True:
            present = champion.holder(client, name)
            if present is not None and champion.files_of(present) == found.sha256:
                return {"state": "champion already", "model": name, "version": str(present.version), "run": found.name}
            verdict = gate.decide(present and str(present.version), lambda v: _files_of(name, v, server, choice.runs))
            if not verdict.passed and not said.force:
                raise GateError(f"run {found.name} is not registered as '{name}'; {verdict.failures}")
            facts = _card.facts(name, found, gate, verdict, said.data_licence, said.force)
            registry.add_files(client, found.model_id, _card.files(facts, found))
            version = champion.promote(client, _card.entry(facts), present and str(present.version))
            if version is not None:
                return _result(facts, verdict, str(version.version), present and str(present.version))


def _run_id(client: Any, choice: Choice, folder: Path | None, server: str) -> str:
    from sisr.terminal.console import err
    from sisr.tracking import search, selection

    if choice.experiment is None:
        return str(choice.run) if folder is None else selection.delivered(folder, server)
    run = search.ranked(client, choice.experiment, choice.metric, choice.mode)[0]
    value = run.data.metrics[choice.metric]
    err.print(f"best of {choice.experiment} by {choice.metric}: {run.info.run_name} ({value:.6g})", markup=False)
    return str(run.info.run_id)


def _files_of(name: str, version: str, server: str, runs: Path) -> Path:
    from sisr.tracking.registry import download_model

    return download_model(f"models:/{name}/{version}", tracking_uri=server, runs=runs)


def _result(facts: "Facts", verdict: "Verdict", version: str, previous: str | None) -> dict[str, Any]:
    return {
        "state": "forced" if facts.forced else "registered",
        "model": facts.name,
        "version": version,
        "previous": previous,
        "run": facts.run_name,
        "protocol": facts.protocol,
        "data": facts.data,
        "images": facts.images,
        "tests": [{"name": name, "passed": passed, "finding": words} for name, passed, words in facts.findings],
        "mean": {report.model: report.mean for report in verdict.reports},
    }


def _roll_back(name: str | None, tracking_uri: str | None, runs: Path) -> dict[str, Any]:
    from sisr.errors import ConfigError
    from sisr.tracking import address, champion, selection

    server = address.choose(tracking_uri, runs)
    with selection.asking(server) as client:
        known = champion.names(client)
        if name is None and len(known) != 1:
            raise ConfigError(f"name the model with --model-name; there are {', '.join(known) or 'none'}")
        version, previous = champion.roll_back(client, name or known[0])
    return {"state": "rolled back", "model": name or known[0], "version": version, "previous": previous}


def _summary(result: dict[str, Any]) -> str:
    """Return what happened in a few lines."""
    tests = [f"  {t['name']}: {'passed' if t['passed'] else 'FAILED'}; {t['finding']}" for t in result.get("tests", ())]
    before = f"; version {result['previous']} is previous" if result.get("previous") else ""
    where = f"{result['state']}: version {result['version']} is models:/{result['model']}@champion{before}"
    measured = [f"  {result['images']} images of {result['data']}, {result['protocol']}"] if tests else []
    return "\n".join([where, *measured, *tests])


if __name__ == "__main__":
    from sisr.terminal.cli import run as run_verb

    run_verb(main)
