import pytest

from penstock.runners.machine_types import find_machine_type

GIB = 1 << 30


@pytest.mark.parametrize(
    ("name", "cores", "gib"),
    [
        ("n1-standard-4", 4, 15),
        ("n1-highmem-2", 2, 13),
        ("n2-standard-4", 4, 16),
        ("n2-highmem-8", 8, 64),
        ("e2-highcpu-16", 16, 16),
        ("c3-standard-8-lssd", 8, 32),
        ("c4-standard-4", 4, 15),
        ("custom-4-5120", 4, 5),
        ("n2-custom-2-16384", 2, 16),
        ("n2-custom-2-32768-ext", 2, 32),
    ],
)
def test_cores_and_memory_are_told_by_the_name(name: str, cores: int, gib: float):
    machine = find_machine_type(name)
    assert machine is not None
    assert (machine.name, machine.cores, machine.memory) == (name, cores, gib * GIB)


@pytest.mark.parametrize("name", ["a2-highgpu-1g", "x9-standard-4", "n2-standard", "c2-highmem-4", ""])
def test_of_other_names_nothing_is_known(name: str):
    assert find_machine_type(name) is None
