import numpy as np

from penstock.pipeline.splitmix import GOLDEN_GAMMA, mix64


def test_the_sequence_is_splitmix64s():
    """As Java's SplittableRandom and the reference in C (prng.di.unimi.it/splitmix64.c) have it, from seed 1234567."""
    states = np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * np.uint64(GOLDEN_GAMMA)
    assert mix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
