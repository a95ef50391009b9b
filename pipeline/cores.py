"""How many of the machine's cores this process may use."""

import contextlib
import math
import os

_QUOTAS = (  # of a container: files with its share of time and the period, of which v2 of cgroups has one and v1 two
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


def cores() -> int:
    """The cores that the process is bound to, where the system tells them, or the machine's; no more than its quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _quota())))


def _quota() -> float:
    """How many cores' time a container is given; infinite where it is as much as there is."""
    for paths in _QUOTAS:
        with contextlib.suppress(OSError, ValueError):
            words = []
            for path in paths:
                with open(path) as file:
                    words += file.read().split()
            share, period = words
            if share not in ("max", "-1"):
                return int(share) / int(period)
    return math.inf
