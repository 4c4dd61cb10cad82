"""Open MLflow's web page on this project's runs: curves, sample pictures and models.

The page is served to this machine only, until Ctrl-C; --host opens it to others, who then may also change and delete.
"""

from pathlib import Path
from typing import Annotated

import typer

from sisr.errors import ConfigError
from sisr.pipelines._options import Runs
from sisr.terminal import cli, console
from sisr.terminal.service import until_interrupted
from sisr.tracking import address
from sisr.tracking.server import Server, free_port


def main(
    runs: Runs = Path("runs"),
    tracking_uri: Annotated[str | None, typer.Option(help="A database; default: the SQLite file in --runs.")] = None,
    host: Annotated[str, typer.Option(help="This machine's address to listen at; 0.0.0.0: all.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: 5000, or the next free one.")] = None,
) -> None:
    """Serve MLflow's page until Ctrl-C."""
    uri = address.choose(tracking_uri, runs)
    if uri.startswith(("http://", "https://")):
        raise ConfigError(f"{uri} is a server already: open it in a browser")
    if not runs.exists():
        raise ConfigError(
            f"there is no folder {runs}: --runs names the one that holds your runs; `sisr demo` makes one"
        )
    runs.mkdir(exist_ok=True)  # a file of that name is an error
    with until_interrupted() as ending:
        server = Server(uri, free_port(port, host=host), runs / "mlflow-server.log", host)
        ending.callback(server.stop)
        console.err.print("starting MLflow's server ...")
        server.wait()
        _show(server.url, host)
        server.join()


def _show(url: str, host: str) -> None:
    """Print where to begin, and who else may look."""
    from sisr.tracking import views
    from sisr.tracking.selection import asking

    with asking(url) as client:
        found = list(views.links(client, url)) or [("no runs yet", url)]
    console.out.print("Open one of these; Ctrl-C ends it:")
    for name, page in found:
        console.out.print(f"  {name}: {page}", markup=False, soft_wrap=True)
    if host not in ("127.0.0.1", "localhost", "::1"):
        console.err.print(
            f"listening at {host}: whoever reaches it can read, change and delete everything, for MLflow asks for no "
            "password; an SSH tunnel (ssh -L 5000:localhost:5000 HOST) needs no --host",
            markup=False,
        )


if __name__ == "__main__":
    cli.run(main)
