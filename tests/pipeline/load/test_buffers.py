import pickle

import numpy as np

from penstock.pipeline.load.buffers import Buffers

SHAPE = (1 << 16,)  # of float32: large enough to be used again


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_once_nobody_refers_to_it() -> None:
    buffers = Buffers()
    first = buffers.empty(SHAPE, np.float32)
    place = address(first)
    del first
    again = buffers.empty((1 << 15, 2), np.int32)  # of the same size
    assert (again.shape, again.dtype, address(again)) == ((1 << 15, 2), np.int32, place)


def test_memory_that_a_view_refers_to_is_not_touched() -> None:
    buffers = Buffers()
    view = buffers.empty(SHAPE, np.float32)[10:20]
    view[:] = 7
    others = [buffers.empty(SHAPE, np.float32) for _ in range(3)]
    for other in others:
        other[:] = 0
    assert view.tolist() == [7] * 10
    assert len({address(other) for other in others}) == 3


def test_large_arrays_lie_where_frameworks_take_them_without_a_copy() -> None:
    buffers = Buffers()
    assert all(address(buffers.empty((size,), np.uint8)) % 64 == 0 for size in range(1 << 17, (1 << 17) + 70))


def test_a_copy_in_another_process_begins_empty() -> None:
    buffers = Buffers()
    array = buffers.empty(SHAPE, np.float32)
    assert address(pickle.loads(pickle.dumps(buffers)).empty(SHAPE, np.float32)) != address(array)


def test_who_needs_many_at_once_gets_them_again_and_others_give_them_up() -> None:
    buffers = Buffers()

    def many() -> set[int]:
        return {address(array) for array in [buffers.empty(SHAPE, np.float32) for _ in range(12)]}

    first = many()
    assert len(first) == 12
    assert len(first & many()) >= 10
    for _ in range(200):
        buffers.empty(SHAPE, np.float32)
    assert sum(map(len, buffers._buffers.values())) <= 6
