import json
import random

import numpy as np
import pytest

from penstock.pipeline.sources.json_nesting import nesting


def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def random_value(pick, deep):
    roll = pick.random()
    if deep and roll < 0.98:
        values = [random_value(pick, deep - 1), *(random_value(pick, 0) for _ in range(pick.randrange(3)))]
        return values if roll < 0.5 else {f'k{at}"[\\': value for at, value in enumerate(values)}
    return pick.choice([1, None, "a", '"', "\\", '\\"{[', "}]" * 40, "{" * 70, [], {}])


@pytest.mark.parametrize("seed", range(10))
def test_levels_of_many_lines(seed):
    pick = random.Random(seed)
    values = [{"a": random_value(pick, pick.choice([2, 10, 90, 200]))} for _ in range(100)]
    lines = [json.dumps(value).encode() + b"\n" for value in values]
    between = [b"\n" * pick.randrange(3) + b'"[' for _ in lines]
    data = b"".join(gap + line for gap, line in zip(between, lines, strict=True))
    ends = np.cumsum([len(gap) + len(line) for gap, line in zip(between, lines, strict=True)])
    starts = ends - [len(line) for line in lines]
    levels = nesting(np.frombuffer(data, np.uint8), starts, ends)
    expected = np.array([depth(value) for value in values])
    assert (np.maximum(levels, 64) == np.maximum(expected, 64)).all()
    assert (expected > 64).any()


def test_a_string_that_is_not_closed_ends_with_its_line():
    lines = [b'{"a":"' + b"[" * 100 + b"\n", b"[" * 100 + b"\n", b"[]" * 100 + b"\n"]
    ends = np.cumsum([len(line) for line in lines])
    starts = ends - [len(line) for line in lines]
    assert nesting(np.frombuffer(b"".join(lines), np.uint8), starts, ends).tolist() == [1, 100, 1]
