import os
import time

import psutil

from sisr.tracking.service import Sampler


def test_a_sample_has_the_names_of_mlflows_page_and_plausible_values():
    sampler = Sampler(os.getpid())
    time.sleep(0.05)
    sample = sampler.sample()
    assert 0 <= sample["system/cpu_utilization_percentage"] <= 100
    assert 0 < sample["system/system_memory_usage_percentage"] < 100
    resident = psutil.Process().memory_info().rss / 1e6
    assert sample["system/run_memory_usage_megabytes"] > resident / 2
    assert all(name.startswith("system/") for name in sample)


def test_a_process_that_is_gone_counts_no_memory():
    assert Sampler(2**22 - 1).sample()["system/run_memory_usage_megabytes"] == 0
