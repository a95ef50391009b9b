"""How many of the machine's cores this process may use."""

import os


def cores() -> int:
    """The cores that the process is bound to, where the system tells them; else the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
