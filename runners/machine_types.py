"""What the machine types of Google's Compute Engine have: cores and memory, told from their names."""

import re
from dataclasses import dataclass

_GIB = 1 << 30
# Memory of each core, GiB, by series and class.
_GIB_A_CORE = {
    "n1": {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9},
    "n2": {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0},
    "n2d": {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0},
    "n4": {"standard": 4.0, "highmem": 8.0, "highcpu": 2.0},
    "e2": {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0},
    "c2": {"standard": 4.0},
    "c2d": {"standard": 4.0, "highmem": 8.0, "highcpu": 2.0},
    "c3": {"standard": 4.0, "highmem": 8.0, "highcpu": 2.0},
    "c3d": {"standard": 4.0, "highmem": 8.0, "highcpu": 2.0},
    "c4": {"standard": 3.75, "highmem": 7.75, "highcpu": 2.0},
    "c4a": {"standard": 4.0, "highmem": 8.0, "highcpu": 2.0},
    "t2d": {"standard": 4.0},
    "t2a": {"standard": 4.0},
    "g2": {"standard": 4.0},
}


@dataclass(frozen=True)
class MachineType:
    """A machine type: its name, its virtual cores, its bytes of memory."""

    name: str
    cores: int
    memory: int


def find_machine_type(name: str) -> MachineType | None:
    """The machine type of a name such as `n2-standard-4` or `n2-custom-4-16384`; None where the name does not tell."""
    if match := re.fullmatch(r"(?:\w+-)?custom-(\d+)-(\d+)(?:-ext)?", name):
        return MachineType(name, int(match[1]), int(match[2]) << 20)
    if match := re.fullmatch(r"(\w+)-(standard|highmem|highcpu)-(\d+)(?:-lssd)?", name):
        gib = _GIB_A_CORE.get(match[1], {}).get(match[2])
        if gib is not None:
            return MachineType(name, int(match[3]), int(int(match[3]) * gib * _GIB))
    return None
