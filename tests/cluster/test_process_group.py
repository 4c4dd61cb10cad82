"""How Ray Train's workers find each other."""

import psutil
import pytest
from torch.distributed import TCPStore

from sisr.cluster.train_extensions import serve_store


def test_the_workers_store_listens_on_the_node_s_address_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    address, port = serve_store(timeout_s=20)
    client = TCPStore(address, port, world_size=2, is_master=False)
    client.set("key", "value")
    assert client.get("key") == b"value"
    listening = [line.laddr for line in psutil.Process().net_connections() if line.status == psutil.CONN_LISTEN]
    assert [place.ip for place in listening if place.port == port] == ["127.0.0.1"]
