from itertools import chain

import numpy as np
import pytest

from penstock.pipeline import RequestError
from penstock.pipeline.load.order import Order, Share, State, Steps, choose_shuffle, permute


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 17, 1000])
@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_permute_is_a_permutation(count: int, seed: int) -> None:
    assert sorted(permute(np.arange(count), count, seed).tolist()) == list(range(count))


def test_permute_needs_no_other_positions() -> None:
    whole = permute(np.arange(1000), 1000, 5)
    np.testing.assert_array_equal(permute(np.array([999, 0, 500]), 1000, 5), whole[[999, 0, 500]])


def test_permute_puts_everything_everywhere() -> None:
    counts = np.zeros((7, 7), int)
    for seed in range(2000):
        counts[np.arange(7), permute(np.arange(7), 7, seed)] += 1
    # the chi-squared statistic of 36 degrees of freedom exceeds 68 once in a thousand times
    assert ((counts - 2000 / 7) ** 2 / (2000 / 7)).sum() < 68


# Checkpoints say where they are in these orders: if they change, a resumed run repeats and loses examples.
@pytest.mark.parametrize(
    ("shuffle", "epoch", "expected"),
    [
        (None, 0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ("exact", 0, [8, 1, 5, 4, 10, 0, 3, 11, 7, 2, 9, 6]),
        ("exact", 1, [8, 3, 4, 5, 11, 9, 0, 7, 6, 10, 1, 2]),
        ("window", 0, [1, 2, 3, 0, 4, 7, 6, 5, 9, 11, 8, 10]),
        ("window", 1, [10, 11, 9, 0, 2, 3, 1, 4, 8, 5, 6, 7]),
    ],
)
def test_order_is_the_same_on_every_machine(shuffle: str | None, epoch: int, expected: list[int]) -> None:
    order = Order((5, 0, 3, 4), shuffle, seed=7, window=4)  # type: ignore[arg-type]
    assert order.examples(epoch, np.arange(12)).tolist() == expected


@pytest.mark.parametrize("shuffle", ["window", "exact"])
def test_epochs_and_seeds_have_their_own_orders(shuffle: str) -> None:
    positions = np.arange(40)
    orders = {
        tuple(Order((20, 20), shuffle, seed, window=8).examples(epoch, positions).tolist())  # type: ignore[arg-type]
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9
    assert all(sorted(order) == list(range(40)) for order in orders)


def test_a_window_has_stretches_of_neighbours() -> None:
    order = Order((1000,) * 10, "window", seed=1, window=2048)
    examples = order.examples(0, np.arange(10_000))
    for start in range(0, 8192, 2048):
        runs = np.count_nonzero(np.diff(np.sort(examples[start : start + 2048])) > 1) + 1
        assert 90 <= runs <= 145  # reads, of 16 examples each; fewer where they are neighbours


@pytest.mark.parametrize("shards", [1, 10])
@pytest.mark.parametrize("window", [1024, 4096, 16_384])
def test_sorted_storage_is_mixed_at_least_as_by_a_buffer_of_the_same_size(shards: int, window: int) -> None:
    """A buffer as tf.data has it, which gives a random one of its examples for each that comes in."""
    count, classes, batch = 40_000, 100, 64
    order = Order((count // shards,) * shards, "window", seed=3, window=window)
    generator = np.random.default_rng(0)
    buffer, buffered = list(range(window)), []
    for example in range(window, count):
        place = generator.integers(window)
        buffered.append(buffer[place])
        buffer[place] = example

    def distinct(examples: np.ndarray) -> float:
        whole = (examples * classes // count)[: len(examples) // batch * batch].reshape(-1, batch)
        return float(np.mean([len(set(row)) for row in whole.tolist()]))

    found = distinct(order.examples(0, np.arange(count)))
    assert found >= distinct(np.array(buffered))
    assert found > 30  # a permutation of all has 47


@pytest.mark.parametrize("reach", [100, 250, 10_000])
def test_stretches_change_places_within_reach_only(reach: int) -> None:
    order = Order((100,) * 10, "window", seed=1, window=100, reach=reach)
    examples = order.examples(0, np.arange(1000))
    assert sorted(examples.tolist()) == list(range(1000))
    shards = [len(set((examples[start : start + 100] // 100).tolist())) for start in range(0, 1000, 100)]
    assert (max(shards) > 6) == (reach == 10_000)
    assert max(shards) <= 2 * (reach // 100 + 2)


@pytest.mark.parametrize("sizes", [(5, 0, 3, 4), (300, 1, 0, 77, 400)])
@pytest.mark.parametrize("window", [4, 64, 300])
@pytest.mark.parametrize("reach", [None, 1, 150])
def test_examples_come_before_their_windows_end(sizes: tuple[int, ...], window: int, reach: int | None) -> None:
    order = Order(sizes, "window", seed=5, window=window, reach=reach)
    positions = np.arange(order.count)
    ends = order.turns(2, order.examples(2, positions))
    assert (ends == np.minimum((positions // window + 1) * window, order.count)).all()


def test_orders_of_other_reach_are_told_apart() -> None:
    orders = [Order((50, 50), "window", reach=reach) for reach in (None, 50, 60)]
    assert len({order.fingerprint for order in orders}) == 3


@pytest.mark.parametrize(
    ("local", "stored", "reach", "expected"),
    [
        (True, 1 << 30, None, "exact"),
        (True, 1 << 30, 1000, "exact"),
        (True, 1 << 30, 999, "window"),
        (True, 5 << 30, None, "window"),
        (False, 1 << 20, None, "window"),
    ],
)
def test_exact_is_chosen_where_it_costs_little(local: bool, stored: int, reach: int | None, expected: str) -> None:
    assert choose_shuffle(local, stored, 1000, reach) == expected


def _taken(steps: Steps, state: State) -> tuple[list[int], State]:
    taken: list[int] = []
    for step in steps.epoch(state):
        taken += step.positions.tolist()
        state = step.after
    return taken, state


@pytest.mark.parametrize("hosts", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 10, 31, 60])
def test_hosts_share_without_overlap_or_gap(hosts: int, count: int) -> None:
    taken = [_taken(Steps(count, 4, Share(host, hosts)), State())[0] for host in range(hosts)]
    assert sorted(chain.from_iterable(taken)) == list(range(count))


@pytest.mark.parametrize("hosts", [1, 2, 3, 5])
def test_equal_hosts_get_equally_many(hosts: int) -> None:
    taken = [_taken(Steps(31, 4, Share(host, hosts), equal=True), State())[0] for host in range(hosts)]
    assert {len(part) for part in taken} == {31 // hosts}
    assert sorted(chain.from_iterable(taken)) == list(range(31 // hosts * hosts))


@pytest.mark.parametrize("hosts", [1, 2, 3, 5])
def test_drop_remainder_makes_full_batches_equally_many(hosts: int) -> None:
    steps = [
        [len(step.positions) for step in Steps(63, 4, Share(host, hosts), drop_remainder=True).epoch(State())]
        for host in range(hosts)
    ]
    assert all(part == [4] * (63 // (4 * hosts)) for part in steps)


@pytest.mark.parametrize("before", [1, 2, 3, 4])
@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_resumed_on_other_hosts_nothing_is_lost_or_repeated(before: int, after: int) -> None:
    taken: list[int] = []
    states = set()
    for host in range(before):
        steps = list(Steps(50, 3, Share(host, before)).epoch(State(seed=9)))
        for step in steps[:3]:
            taken += step.positions.tolist()
        states.add(steps[2].after)
    assert len(states) == 1  # any host's checkpoint will do
    for host in range(after):
        taken += _taken(Steps(50, 5, Share(host, after)), states.copy().pop())[0]
    assert sorted(taken) == list(range(50))


@pytest.mark.parametrize("position", [0, 3, 48, 50])
@pytest.mark.parametrize("drop", [False, True])
def test_length_is_the_number_of_steps(position: int, drop: bool) -> None:
    for host in range(3):
        steps = Steps(50, 4, Share(host, 3), drop)
        assert steps.length(position) == len(list(steps.epoch(State(0, 0, position))))


def test_the_last_step_ends_the_epoch() -> None:
    assert _taken(Steps(10, 4), State(seed=3, epoch=5))[1] == State(seed=3, epoch=6, start=6)
    assert _taken(Steps(10, 4, repeat=7), State(seed=3, epoch=5))[1] == State(seed=3, epoch=6)


@pytest.mark.parametrize("share", [(0, 0), (2, 2), (-1, 2)])
def test_wrong_shares_are_refused(share: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match="0 <= index < count"):
        Share(*share)


@pytest.mark.parametrize("entry", [{"step": 3}, {"epoch": "x"}, {"seed": 0, "epoch": -1, "position": 0}])
def test_wrong_states_are_refused(entry: dict[str, int]) -> None:
    with pytest.raises(RequestError, match="state"):
        State.from_json(entry)
