"""Open MLflow's web page on this project's runs: curves, sample pictures and models.

The page is served to this machine only, until Ctrl-C; --host opens it to others, who then may also change and delete.
"""

import signal
from pathlib import Path
from typing import Annotated

import typer

from sisr.errors import ConfigError
from sisr.pipelines._options import Runs
from sisr.terminal import cli, console
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
    runs.mkdir(parents=True, exist_ok=True)
    # SIGTERM is made to unwind like Ctrl-C, and both stay the parent's business: the server has its own session.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = Server(uri, free_port(port, host=host), runs / "mlflow-server.log", host)
    try:
        console.err.print("starting MLflow's server ...")
        server.wait()
        console.out.print(f"{server.url}  (Ctrl-C ends it)", markup=False)
        _show(server.url, host)
        server.join()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave processes behind
        server.stop()


def _show(url: str, host: str) -> None:
    """Print where to begin, and who else may look."""
    from sisr.tracking import views
    from sisr.tracking.selection import asking

    with asking(url) as client:
        for name, page in views.links(client, url):
            console.out.print(f"  {name}: {page}", markup=False, soft_wrap=True)
    if host not in ("127.0.0.1", "localhost", "::1"):
        console.err.print(
            f"listening at {host}: whoever reaches it can read, change and delete everything, for MLflow asks for no "
            "password; an SSH tunnel (ssh -L 5000:localhost:5000 HOST) needs no --host",
            markup=False,
        )


if __name__ == "__main__":
    cli.run(main)
