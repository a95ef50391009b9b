import numpy as np
import pytest

from penstock.pipeline.formats.distinct import addresses, representatives
from penstock.pipeline.splitmix import mix64


@pytest.mark.parametrize("values", [1, 3, 100, 4000, 2**60])
@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_each_row_is_represented_by_an_equal_one(values: int, rows: int) -> None:
    generator = np.random.default_rng(values)
    first = generator.integers(0, values, rows).astype(np.uint64)
    second = generator.integers(0, 2, rows).astype(np.uint64)
    same = representatives([first, second])
    np.testing.assert_array_equal(first[same], first)
    np.testing.assert_array_equal(second[same], second)
    np.testing.assert_array_equal(same[same], same)
    distinct = len(set(zip(first.tolist(), second.tolist(), strict=True)))
    assert distinct <= (same == np.arange(rows)).sum() <= distinct * 1.01


def test_rows_whose_hashes_are_equal_may_differ() -> None:
    first = np.array([1, 2, 1], np.uint64)
    second = mix64(first) ^ np.uint64(7)  # what `representatives` makes of them: all have one hash
    second[2] = second[0]
    assert representatives([first, second]).tolist() in ([2, 1, 2], [0, 1, 0], [0, 1, 2])


def test_addresses_are_those_of_the_objects() -> None:
    shared, other = b"x" * 40, bytes(bytearray(b"x" * 40))
    objects = np.empty(6, object)
    objects[:] = [shared, other, shared, None, other, shared]
    assert addresses(objects).tolist() == [id(each) for each in objects]
    assert addresses(objects[::2]).tolist() == [id(shared), id(shared), id(other)]
    view = addresses(objects.copy())
    assert view.tolist() == [id(each) for each in objects]  # the array that they are in stays
