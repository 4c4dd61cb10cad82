"""Answer HTTP requests with enlarged pictures, from a registered model or a run, on Ray Serve.

POST an image file to /upscale and get a PNG, WebP or JPEG; the page at / tries it, /docs describes it. With
models:/NAME@champion the service follows the alias: a new champion is loaded and checked, then takes over without a
pause; one that does not work is reported, and the old one goes on. Only this machine can reach the service, unless
--host says otherwise; Ctrl-C ends it.
Exit codes: 0 ended by Ctrl-C, 2 a wrong option or a port in use, 4 no such model, 69 MLflow does not answer.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sisr.cluster.serve import Service, ServiceOptions, stop
from sisr.driver import models
from sisr.driver.served_model import Following, ReleaseSource, checked
from sisr.pipelines._options import Recipes, Runs, TrackingUri
from sisr.serving.limits import Limits
from sisr.serving.release import Release
from sisr.terminal import cli, console
from sisr.terminal.service import until_interrupted
from sisr.tracking import address as addresses
from sisr.tracking.server import free_port

MODEL = "A run's name or folder, a checkpoint or model folder, a weights file, models:/NAME@champion, or runs:/...."
HOST = "Address to listen on. There is no login: others than 127.0.0.1 open it to all who reach this machine."
THREADS = "CPU threads of each replica. Default: an equal share of the cores, or 1 beside a GPU."
AT_ONCE = "Pictures that a replica computes at the same time. Default: one for each thread, or 1 on a GPU."
QUEUE = "Requests of a replica that may wait; the next is answered with 503."
TIME = "Seconds until a picture that is not done is answered with 504."
EVERY = "Seconds between two looks at the alias."
ALLOWED = "Names by which clients may call it besides localhost and addresses, such as a proxy's; comma-separated."
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main(
    model: Annotated[str, typer.Argument(help=MODEL)],
    host: Annotated[str, typer.Option(help=HOST)] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    replicas: Annotated[int, typer.Option(min=1, help="Processes that compute.")] = 1,
    gpus_per_replica: Annotated[float | None, typer.Option(min=0, help="Default: 1 where there are enough.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help=THREADS)] = None,
    at_once: Annotated[int | None, typer.Option(min=1, help=AT_ONCE)] = None,
    max_megabytes: Annotated[float, typer.Option(min=0, help="Of a request.")] = 10,
    max_megapixels: Annotated[float, typer.Option(min=0, help="Of a picture that is sent.")] = 4,
    queue: Annotated[int, typer.Option(min=0, help=QUEUE)] = 64,
    timeout: Annotated[float, typer.Option(min=1, help=TIME)] = 120,
    follow_every: Annotated[float, typer.Option(min=0.1, help=EVERY)] = 5,
    address: Annotated[str | None, typer.Option(help="Of a running Ray cluster. Default: this machine.")] = None,
    allowed_hosts: Annotated[str, typer.Option(help=ALLOWED)] = "",
    recipe: Recipes = None,
    runs: Runs = Path("runs"),
    tracking_uri: TrackingUri = None,
) -> None:
    """Serve a model until Ctrl-C."""
    addresses.export()
    limits = Limits(
        max_bytes=round(max_megabytes * 2**20), max_pixels=round(max_megapixels * 1e6), queue=queue, time_s=timeout
    )
    options = ServiceOptions(
        host=host,
        port=port,
        replicas=replicas,
        gpus_per_replica=gpus_per_replica,
        threads=threads,
        at_once=at_once,
        limits=limits,
        address=address,
        allowed_hosts=tuple(allowed_hosts.replace(",", " ").split()),
    )
    free_port(port, host=host)
    release, source = _first(model, tracking_uri, runs, recipe or [])
    _serve(options, release, source, follow_every)


def _first(
    spec: str, tracking_uri: str | None, runs: Path, recipes: Sequence[str]
) -> tuple[Release, ReleaseSource | None]:
    """Return the model that `spec` names, checked, and where it comes from if that can change."""
    from sisr.tracking.champion import registered

    found = registered(spec, tracking_uri, runs)
    if found is None:
        return checked(models.locate(spec, runs, tracking_uri), recipes, models.short(spec)), None
    source = ReleaseSource(found, recipes)
    return source.release(found.version()), source if found.alias else None


def _serve(options: ServiceOptions, release: Release, source: ReleaseSource | None, every_s: float) -> None:
    if options.host not in LOOPBACK:
        console.note(f"--host {options.host}: whoever reaches this machine can use the service")
    with until_interrupted() as ending:
        ending.callback(stop)
        console.err.print("starting Ray Serve ...")
        service = Service(options, release)
        shown = f"[{options.host}]" if ":" in options.host else options.host
        served = f"{release.name} version {release.version}"
        console.out.print(f"http://{shown}:{options.port}  serves {served}  (Ctrl-C ends it)", markup=False)
        following = Following(service, source)
        while True:
            time.sleep(every_s)
            following.look()


if __name__ == "__main__":
    cli.run(main)
