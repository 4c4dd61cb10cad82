"""How busy the machine is, under the names that MLflow's page calls system metrics."""

from contextlib import suppress

import psutil
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor


class Sampler:
    """Measures this machine, and the processes below one of them."""

    def __init__(self, pid: int | None):
        """Start measuring.

        Args:
            pid: The process whose memory is counted together with all its descendants'; `None`: no process.
        """
        self._pid = pid
        self._monitors: list[BaseMetricsMonitor] = [CPUMonitor()]
        with suppress(ImportError, RuntimeError):  # there is no NVIDIA GPU
            self._monitors.append(GPUMonitor())
        psutil.cpu_percent()  # the first call only starts the clock

    def sample(self) -> dict[str, float]:
        """Return CPU (percent since the last call), memory (MB, percent) and what NVIDIA's library says of each GPU."""
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        if self._pid is not None:
            found["system/run_memory_usage_megabytes"] = round(_tree_bytes(self._pid) / 1e6, 1)
        return found


def _tree_bytes(pid: int) -> int:
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total
