"""A lab for tests: a laptop with this project, and hosts that hold nothing yet but the packages it needs.

The packages are those of the running Python. Hosts and laptop get them through a path file in an environment that is
otherwise empty, so that `pip` finds everything there, and installs this project without a network.
"""

import shlex
import shutil
import site
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hosts import HOME, UID, USER, Host, Network, complete, network
from sisr.config.yaml import read_yaml
from sisr.doctor import cluster_file

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = "cluster.local.yaml"
PROJECT, VENV = HOME / "checkout", HOME / "venv"
SHARED = Path("/shared")
PACKAGES = [Path(path) for path in sys.path if Path(path).name == "site-packages"] or [Path(site.getsitepackages()[0])]
SCRIPT = """#!{python}
from {module} import {name}
raise SystemExit({name}())
"""


# What a command on the laptop finds, as after `. .venv/bin/activate`.
ENVIRONMENT = {"PATH": f"{VENV}/bin:/usr/local/bin:/usr/bin:/bin", "RAY_AUTH_MODE": "token"}


@dataclass(frozen=True)
class Lab:
    """The laptop, the hosts of the cluster, head first, and a stranger in the same network."""

    network: Network
    nodes: list[Host]
    laptop: Host
    stranger: Host
    shared: Path  # shared storage, as this machine sees it

    def command(self, *words: str) -> list[str]:
        """Return what runs a command in the project's folder on the laptop."""
        return self.laptop.command("sh", "-c", f'cd {PROJECT} && exec "$@"', "sh", *words, env=ENVIRONMENT)

    def run(self, *words: str, timeout_s: float = 600) -> str:
        """Run a command in the project's folder on the laptop to its end, and return what it printed.

        Raises:
            AssertionError: It failed.
        """
        return complete(self.command(*words), timeout_s)

    def submit(self, verb: str, *words: str, options: Sequence[str] = ()) -> list[str]:
        """Return the words of `ray submit` that run a pipeline on the head."""
        return ["ray", "submit", *options, CLUSTER, f"pipelines/{verb}.py", "--", *words]

    def on_head(self, *words: str) -> str:
        """Run a command in a shell on the head, and return what it printed."""
        return self.nodes[0].run("bash", "-c", f". ~/sisr.env; {shlex.join(words)}")


@contextmanager
def lab(scratch: Path, nodes: Sequence[str]) -> Iterator[Lab]:
    """Make a lab; all of it is gone afterwards."""
    keys, shared = scratch / "hosts", scratch / "shared"
    keys.mkdir()
    shared.mkdir()
    shutil.chown(shared, UID, UID)
    python = sorted({Path(sys.prefix), Path(sys.base_prefix), *PACKAGES})
    names = [*nodes, "laptop", "stranger"]
    with network(names, keys, read_only=python, shared={shared: SHARED}, strangers={"laptop", "stranger"}) as found:
        made = Lab(found, [found.hosts[name] for name in nodes], found.hosts["laptop"], found.hosts["stranger"], shared)
        for host in [*made.nodes, made.laptop]:
            give_packages(host)
        for host in made.nodes:
            # Ray lets its workers wait for all others, who may be many on the machine that simulates the hosts.
            with open(host.path(HOME / ".bashrc"), "a") as file:
                file.write("export RAY_worker_niceness=0\n")
        give_project(made.laptop, keys / "key", [host.address for host in made.nodes])
        yield made


def give_packages(host: Host) -> None:
    """Make an environment that is empty, but sees the packages of the running Python, and has Ray's command."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = host.path(VENV / "lib" / version / "site-packages")
    packages.mkdir(parents=True)
    (packages / "packages.pth").write_text("".join(f"{path}\n" for path in PACKAGES))
    script = host.path(VENV / "bin" / "ray")
    script.parent.mkdir()
    script.write_text(SCRIPT.format(python=VENV / "bin" / "python", module="ray.scripts.scripts", name="main"))
    script.chmod(0o755)
    own(host, VENV)


def give_project(laptop: Host, key: Path, addresses: Sequence[str]) -> None:
    """Install this project as the README says, with cluster.local.yaml filled in, and make Ray's token."""
    folder = laptop.path(PROJECT)
    folder.mkdir()
    mounts = cluster_file.plain(read_yaml(REPOSITORY / CLUSTER))["file_mounts"].values()
    for name in (path for path in mounts if not path.startswith("~")):
        source = REPOSITORY / name
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "REVISION")
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            shutil.copy(source, folder / name)
    (folder / CLUSTER).write_text(filled_in(addresses))
    shutil.copy(key, laptop.path(HOME / ".ssh" / "lab.pem"))
    own(laptop, PROJECT, HOME / ".ssh")
    laptop.run("sh", "-c", "umask 077; mkdir -p ~/.ray; openssl rand -hex 32 > ~/.ray/auth_token")
    laptop.run("python3", "-m", "venv", VENV)
    install = ("-m", "pip", "install", "--quiet", "--no-build-isolation", "-e")
    laptop.run(VENV / "bin" / "python", *install, PROJECT)


def filled_in(addresses: Sequence[str]) -> str:
    """Return cluster.local.yaml with nothing but its placeholders replaced."""
    text = (REPOSITORY / CLUSTER).read_text()
    for placeholder, value in {
        "FILL_IN_HEAD_ADDRESS": addresses[0],
        "FILL_IN_WORKER_ADDRESS": ", ".join(addresses[1:]),
        "FILL_IN_USER": USER,
        "FILL_IN_PRIVATE_KEY_FILE": "~/.ssh/lab.pem",
        "FILL_IN_SHARED_FOLDER": str(SHARED),
    }.items():
        text = text.replace(placeholder, value)
    return text


def own(host: Host, *places: Path) -> None:
    """Give folders to the host's ordinary user."""
    host.run("chown", "--recursive", f"{UID}:{UID}", *places, user="root")
