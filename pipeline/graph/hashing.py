"""The hashes of strings that TensorFlow's string operations use, whole batches at a time: FarmHash64 and SipHash-2-4.

Strings lie one after the other in an array of bytes; what reads 8 of a string's bytes reads them for many strings.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

# FarmHash's constants.
_K0, _K1, _K2 = (np.uint64(value) for value in (0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F))
_BYTES = np.arange(8)
_PADDING = b"\0" * 8  # so that 8 bytes can be read anywhere


def fingerprint64(strings: Sequence[bytes]) -> Words:
    """FarmHash's Fingerprint64, as tf.strings.to_hash_bucket_fast takes it before the division by the buckets.

    Args:
      strings: n strings.

    Returns:
      uint64 [n].
    """
    lengths = np.fromiter(map(len, strings), np.int64, len(strings))
    content = np.frombuffer(b"".join(strings) + _PADDING, np.uint8)
    starts = np.cumsum(lengths) - lengths
    hashes = np.full(len(strings), _K2, np.uint64)
    for low, high, compute in (
        (1, 3, _hash_up_to_3),
        (4, 7, _hash_up_to_7),
        (8, 16, _hash_up_to_16),
        (17, 32, _hash_up_to_32),
        (33, 64, _hash_up_to_64),
        (65, np.iinfo(np.int64).max, _hash_long),
    ):
        chosen = np.flatnonzero((lengths >= low) & (lengths <= high))
        if chosen.size:
            hashes[chosen] = compute(content, starts[chosen], lengths[chosen])
    return hashes


def siphash(strings: Sequence[bytes], key: tuple[int, int]) -> Words:
    """SipHash-2-4, as tf.strings.to_hash_bucket_strong takes it before the division by the buckets.

    Args:
      strings: n strings.
      key: Two numbers of 64 bits.

    Returns:
      uint64 [n].
    """
    lengths = np.fromiter(map(len, strings), np.int64, len(strings))
    padded = [string + b"\0" * (7 - len(string) % 8) + bytes([len(string) % 256]) for string in strings]
    content = np.frombuffer(b"".join(padded), "<u8").astype(np.uint64)
    blocks = lengths // 8 + 1
    starts = np.cumsum(blocks) - blocks
    halves = (np.uint64(part & (2**64 - 1)) for part in (*key, *key))
    salts = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
    state = [np.full(len(strings), half ^ np.uint64(salt)) for half, salt in zip(halves, salts, strict=True)]
    for block in range(int(blocks.max(initial=0))):
        going = np.flatnonzero(blocks > block)
        words = content[starts[going] + block]
        part = [each[going] for each in state]
        part[3] ^= words
        for _ in range(2):
            _sip_round(part)
        part[0] ^= words
        for each, value in zip(state, part, strict=True):
            each[going] = value
    state[2] ^= np.uint64(0xFF)
    for _ in range(4):
        _sip_round(state)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _sip_round(v: list[Words]) -> None:
    """One round of SipHash, in place."""
    v[0] = v[0] + v[1]
    v[2] = v[2] + v[3]
    v[1] = _rotate(v[1], 64 - 13) ^ v[0]
    v[3] = _rotate(v[3], 64 - 16) ^ v[2]
    v[0] = _rotate(v[0], 32)
    v[2] = v[2] + v[1]
    v[0] = v[0] + v[3]
    v[1] = _rotate(v[1], 64 - 17) ^ v[2]
    v[3] = _rotate(v[3], 64 - 21) ^ v[0]
    v[2] = _rotate(v[2], 32)


def _read(content: npt.NDArray[np.uint8], places: npt.NDArray[np.int64], width: int = 8) -> Words:
    """The little-endian number of `width` bytes at each place."""
    window = content[places[:, np.newaxis] + _BYTES[:width]]
    padded = np.zeros((len(places), 8), np.uint8)
    padded[:, :width] = window
    return padded.view("<u8")[:, 0].astype(np.uint64)


def _rotate(words: Words, bits: int) -> Words:
    """Words with their bits rotated to the right."""
    return (words >> np.uint64(bits)) | (words << np.uint64(64 - bits))


def _mix(words: Words) -> Words:
    return words ^ (words >> np.uint64(47))


def _multiplier(lengths: npt.NDArray[np.int64]) -> Words:
    return _K2 + lengths.astype(np.uint64) * np.uint64(2)


def _combine(u: Words, v: Words, multiplier: Words) -> Words:
    a = _mix((u ^ v) * multiplier)
    return _mix((v ^ a) * multiplier) * multiplier


def _hash_up_to_3(
    content: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> Words:
    first, middle, last = (
        content[places].astype(np.uint64) for places in (starts, starts + (lengths >> 1), starts + lengths - 1)
    )
    y = first + (middle << np.uint64(8))
    z = lengths.astype(np.uint64) + (last << np.uint64(2))
    return _mix((y * _K2) ^ (z * _K0)) * _K2


def _hash_up_to_7(
    content: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> Words:
    a = _read(content, starts, 4)
    end = _read(content, starts + lengths - 4, 4)
    return _combine(lengths.astype(np.uint64) + (a << np.uint64(3)), end, _multiplier(lengths))


def _hash_up_to_16(
    content: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> Words:
    multiplier = _multiplier(lengths)
    a, b = _read(content, starts) + _K2, _read(content, starts + lengths - 8)
    return _combine(_rotate(b, 37) * multiplier + a, (_rotate(a, 25) + b) * multiplier, multiplier)


def _hash_up_to_32(
    content: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> Words:
    multiplier = _multiplier(lengths)
    a, b = _read(content, starts) * _K1, _read(content, starts + 8)
    c = _read(content, starts + lengths - 8) * multiplier
    d = _read(content, starts + lengths - 16) * _K2
    return _combine(_rotate(a + b, 43) + _rotate(c, 30) + d, a + _rotate(b + _K2, 18) + c, multiplier)


def _hash_up_to_64(
    content: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> Words:
    multiplier, ends = _multiplier(lengths), starts + lengths
    a, b = _read(content, starts) * _K2, _read(content, starts + 8)
    c, d = _read(content, ends - 8) * multiplier, _read(content, ends - 16) * _K2
    y = _rotate(a + b, 43) + _rotate(c, 30) + d
    z = _combine(y, a + _rotate(b + _K2, 18) + c, multiplier)
    e, f = _read(content, starts + 16) * multiplier, _read(content, starts + 24)
    g, h = (y + _read(content, ends - 32)) * multiplier, (z + _read(content, ends - 24)) * multiplier
    return _combine(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + a, 18) + g, multiplier)


def _hash_long(content: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Words:
    """Of strings of more than 64 bytes: a state of seven words goes over blocks of 64 bytes, and the last 64 bytes."""
    seed = np.full(len(starts), 81, np.uint64)
    y = seed * _K1 + np.uint64(113)
    z = _mix(y * _K2 + np.uint64(113)) * _K2
    x = seed * _K2 + _read(content, starts)
    state = [x, y, z, *(np.zeros(len(starts), np.uint64) for _ in range(4))]
    blocks = (lengths - 1) // 64
    factor = np.full(len(starts), _K1)
    for block in range(int(blocks.max())):
        going = np.flatnonzero(blocks > block)
        part = _long_round([each[going] for each in state], content, starts[going] + 64 * block, factor[going], False)
        for each, value in zip(state, part, strict=True):
            each[going] = value
    rest = ((lengths - 1) & 63).astype(np.uint64)
    factor = _K1 + ((state[2] & np.uint64(0xFF)) << np.uint64(1))
    state[5] += rest
    state[3] += state[5]
    state[5] += state[3]
    x, y, z, v0, v1, w0, w1 = _long_round(state, content, starts + lengths - 64, factor, True)
    first = _combine(v0, w0, factor) + _mix(y) * _K0 + z
    return _combine(first, _combine(v1, w1, factor) + x, factor)


def _long_round(
    state: Sequence[Words], content: npt.NDArray[np.uint8], places: npt.NDArray[np.int64], factor: Words, last: bool
) -> list[Words]:
    """The state x, y, z, v0, v1, w0, w1 after 64 more bytes; the last round weighs some of it by 9."""
    x, y, z, v0, v1, w0, w1 = state
    nine = np.uint64(9 if last else 1)
    words = [_read(content, places + 8 * index) for index in range(8)]
    x = _rotate(x + y + v0 + words[1], 37) * factor
    y = _rotate(y + v1 + words[6], 42) * factor
    x = x ^ (w1 * nine)
    y = y + v0 * nine + words[5]
    z = _rotate(z + w0, 33) * factor
    v = _weak(words[:4], v1 * factor, x + w0)
    w = _weak(words[4:], z + w1, y + words[2])
    return [z, y, x, *v, *w]


def _weak(words: Sequence[Words], a: Words, b: Words) -> tuple[Words, Words]:
    """FarmHash's weak hash of 32 bytes with two seeds."""
    a = a + words[0]
    b = _rotate(b + a + words[3], 21)
    total = a + words[1] + words[2]
    return total + words[3], b + _rotate(total, 44) + a
