import random

import numpy as np
import pyarrow as pa
import pytest

from penstock.pipeline.sources import utf8

EDGES = ["\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff", "a", "\n"]
BROKEN = [b"\xc0\x80", b"\xc1\xbf", b"\xe0\x9f\x80", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5",
          b"\xff", b"\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc3"]  # fmt: skip


def rows_of(seed):
    pick = random.Random(seed)
    pieces = [*(edge.encode() for edge in EDGES), *BROKEN, *(bytes([pick.randrange(256)]) for _ in range(8))]
    return [b"".join(pick.choices(pieces, k=pick.randint(0, 6))).replace(b"\n", b"") for _ in range(200)]


def fails(content):
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    return False


@pytest.mark.parametrize("seed", range(20))
def test_rows_that_python_cannot_decode_are_found(seed):
    rows = rows_of(seed)
    expected = [position for position, row in enumerate(rows) if fails(row)]
    lines = [row + b"\n" for row in rows]
    data = np.frombuffer(b"".join(lines), np.uint8)
    assert utf8.invalid_rows(data, np.cumsum([len(line) for line in lines])).tolist() == expected
    assert utf8.invalid_values(pa.array(rows)).tolist() == expected
    assert utf8.invalid_values(pa.array([b"\xff", *rows])[1:]).tolist() == expected
    assert 20 < len(expected) < 190


def test_a_character_does_not_go_on_in_the_next_value():
    assert utf8.invalid_values(pa.array([b"\xc3", b"\xa9", None, b"\xc3\xa9"])).tolist() == [0, 1]
    assert utf8.invalid_bytes(np.frombuffer("aé\nb".encode() + b"\xe9x\xc3", np.uint8)).tolist() == [5, 7]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [(b"caf\xe9", "latin-1"), (b"\x93x\x94", "cp1252"), (b"\x81", None), (b"\xc3\xa9 \xff", None)],
)
def test_the_encoding_that_bytes_may_be_in(content, encoding):
    assert utf8.suggest_encoding(content) == encoding
