"""Open MLflow's web page on this project's runs: curves, sample pictures and models.

The page is served to this machine only, until Ctrl-C.
"""

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from sisr import console
from sisr.errors import ConfigError


def main(
    runs: Annotated[Path, typer.Option(help="The folder that holds the runs.")] = Path("runs"),
    tracking_uri: Annotated[str | None, typer.Option(help="A database; default: the SQLite file in --runs.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: 5000, or the next free one.")] = None,
) -> None:
    """Serve MLflow's page until Ctrl-C."""
    from sisr.tracking import address
    from sisr.tracking.server import Server, free_port

    uri = address.absolute(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or address.default_uri(runs))
    if uri.startswith(("http://", "https://")):
        raise ConfigError(f"{uri} is a server already: open it in a browser")
    runs.mkdir(parents=True, exist_ok=True)
    # SIGTERM is made to unwind like Ctrl-C, and both stay the parent's business: the server has its own session.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = Server(uri, free_port(port), runs / "mlflow-server.log")
    try:
        console.err.print("starting MLflow's server ...")
        server.wait()
        console.out.print(f"{server.url}  (Ctrl-C ends it)", markup=False)
        server.join()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave processes behind
        server.stop()


if __name__ == "__main__":
    from sisr.cli import run

    run(main)
