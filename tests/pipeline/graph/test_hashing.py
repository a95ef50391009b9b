import numpy as np
import pytest
import tensorflow as tf

from penstock.pipeline.graph.hashing import fingerprint64, siphash

GENERATOR = np.random.default_rng(0)
STRINGS = [GENERATOR.bytes(length) for length in range(300) for _ in range(2)] + [GENERATOR.bytes(5000)]


@pytest.mark.parametrize("buckets", [7, 2**63 - 1])
def test_hashes_are_tensorflows(buckets: int) -> None:
    expected = tf.strings.to_hash_bucket_fast(STRINGS, buckets).numpy().tolist()
    assert (fingerprint64(STRINGS) % np.uint64(buckets)).tolist() == expected
    expected = tf.strings.to_hash_bucket_strong(STRINGS, buckets, [2**62 + 3, 5]).numpy().tolist()
    assert (siphash(STRINGS, (2**62 + 3, 5)) % np.uint64(buckets)).tolist() == expected


def test_no_strings_have_no_hashes() -> None:
    assert fingerprint64([]).shape == siphash([], (1, 2)).shape == (0,)
