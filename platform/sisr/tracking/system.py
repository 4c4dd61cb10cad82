"""How busy the machine is, under the names that MLflow's page calls system metrics."""

import contextlib
from typing import Any

import psutil


class Sampler:
    """Measures this machine, and the processes below one of them."""

    def __init__(self, pid: int | None):
        """Start measuring.

        Args:
            pid: The process whose memory is counted together with all its descendants'; `None`: no process.
        """
        self._pid = pid
        self._gpus = _gpus()
        psutil.cpu_percent()  # the first call only starts the clock

    def sample(self) -> dict[str, float]:
        """Return CPU (percent since the last call), memory (MB, percent) and, where NVIDIA's library is, each GPU."""
        memory = psutil.virtual_memory()
        found = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_megabytes": round(memory.used / 1e6, 1),
            "system/system_memory_usage_percentage": memory.percent,
        }
        if self._pid is not None:
            found["system/run_memory_usage_megabytes"] = round(_tree_bytes(self._pid) / 1e6, 1)
        for index, gpu in enumerate(self._gpus):
            found |= _gpu_sample(index, gpu)
        return found


def _tree_bytes(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def _gpus() -> list[Any]:
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def _gpu_sample(index: int, gpu: Any) -> dict[str, float]:
    import pynvml

    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
        use = pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu
    except pynvml.NVMLError:
        return {}
    return {
        f"system/gpu_{index}_utilization_percentage": float(use),
        f"system/gpu_{index}_memory_usage_megabytes": round(memory.used / 1e6, 1),
        f"system/gpu_{index}_memory_usage_percentage": round(100 * memory.used / memory.total, 1),
    }
