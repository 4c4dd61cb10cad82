"""What is added to Ray Train: how its workers find each other, what is left out, and what ends a run."""

import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
from torch.distributed import TCPStore

from sisr.errors import ConfigError, RunLockedError


def test_the_workers_store_listens_on_the_node_s_address_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from sisr.cluster.train_extensions import serve_store

    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    address, port = serve_store(timeout_s=20)
    client = TCPStore(address, port, world_size=2, is_master=False)
    client.set("key", "value")
    assert client.get("key") == b"value"
    listening = [line.laddr for line in psutil.Process().net_connections() if line.status == psutil.CONN_LISTEN]
    assert [place.ip for place in listening if place.port == port] == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("trainer", "left_out"),
    [("Trainer", {"DatasetsCallback"}), ("TrainerOfOwnRay", {"DatasetsCallback", "PlacementGroupCleanerCallback"})],
)
def test_a_trainer_gets_all_of_ray_s_callbacks_but_those_of_helpers_that_nobody_needs(
    trainer: str, left_out: set[str]
) -> None:
    from ray.train.torch import TorchTrainer

    from sisr.cluster import train_extensions

    theirs, ours = (
        [type(one).__name__ for one in kind(print)._create_default_callbacks()]
        for kind in (TorchTrainer, getattr(train_extensions, trainer))
    )
    assert left_out < set(theirs)
    assert ours == [name for name in theirs if name not in left_out]


@pytest.mark.slow
def test_the_controller_s_process_imports_no_torch() -> None:
    """Which takes two seconds, before the workers are started."""
    program = (
        "import sys, ray.train.v2._internal.execution.controller, sisr.cluster.train_extensions as ours; "
        "ours.OneAddressConfig('gloo', 9), ours.SaveBeforeResizing(), ours.EndOnError(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.stdout == "False\n", done.stderr


def test_a_lock_that_the_attempt_before_still_holds_ends_no_run() -> None:
    from sisr.cluster.train_extensions import EndOnError

    EndOnError().after_worker_group_poll_status(SimpleNamespace(errors={0: RunLockedError("held"), 1: OSError()}))
    with pytest.raises(ConfigError, match="wrong"):
        EndOnError().after_worker_group_poll_status(SimpleNamespace(errors={1: ConfigError("wrong")}))
