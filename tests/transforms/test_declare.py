from typing import Any

import pyarrow as pa
import pytest

from penstock.pipeline.errors import in_words
from penstock.transforms import columns, image, text, touches
from penstock.transforms.declare import touched

EXAMPLE = {"image": object(), "mask": [1, 2], "n": 5}


@touches("mask")
def flat(example: dict[str, Any]) -> dict[str, Any]:
    """Has its own name and words."""
    return {**example, "mask": [0], "n": 4 + 1}


def test_a_declared_function_is_itself() -> None:
    assert flat(EXAMPLE) == {**EXAMPLE, "mask": [0]}
    assert (flat.__name__, flat.__doc__) == ("flat", "Has its own name and words.")
    assert touched(flat) == ("mask",)


@pytest.mark.parametrize(
    "change", [{"image": 3}, {"n": 6}, {"extra": 1}, {"mask": [3], "n": 5.0}], ids=["object", "number", "new", "type"]
)
def test_what_touches_more_than_it_says_fails(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"touches\('mask'\): expected nothing else to change, found another"):
        touches("mask")(lambda example: {**example, **change})(EXAMPLE)


def test_what_removes_or_changes_in_place_fails_too() -> None:
    def emptied(example: dict[str, Any]) -> dict[str, Any]:
        example.pop("n")
        return example

    with pytest.raises(ValueError, match="found another 'n'"):
        touches("mask")(emptied)(dict(EXAMPLE))


def test_functions_of_batches_can_be_declared() -> None:
    @touches("a")
    @columns.vectorized
    def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
        return columns.put(batch, "a", pa.array([2]))

    assert isinstance(doubled, columns.Vectorized)
    assert touched(doubled) == ("a",)
    assert doubled(pa.record_batch({"a": [1]})).to_pydict() == {"a": [2]}


def test_steps_of_penstock_say_what_they_touch() -> None:
    assert touched(image.resize(2, 2)) == ("image", "mask")
    assert touched(image.convert("L")) == ("image",)
    assert touched(text.limit("t", 3)) == ("t",)
    assert touched(lambda example: example) is None
    assert touched(touches()(lambda example: example)) == ()


def test_an_error_names_the_line_of_the_function_itself() -> None:
    @touches("mask")
    def failing(example: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("boxes")

    with pytest.raises(KeyError) as caught:
        failing({})
    assert "test_declare.py, line" in in_words(caught.value, failing)


@pytest.mark.parametrize("name", ["", 3, None])
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match=r"touches\(...\): expected names of features"):
        touches(name)  # type: ignore[arg-type]
