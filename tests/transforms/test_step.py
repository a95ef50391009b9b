"""Steps and codecs name themselves, and their arguments survive JSON: stored names never change."""

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.transforms import columns, dates, image, keep, text
from penstock.transforms.step import Codec, Step, as_json, python_name

PIECES = text.WordPiece(("[UNK]", "a", "##b"), lower=False)


def is_adult(example: dict[str, Any]) -> bool:
    return bool(example["age"] >= 18)


PREDICATE = {"python": python_name(is_adult)}
RESIZE = {
    "height": 8,
    "width": 9,
    "fit": "cover",
    "resample": "box",
    "fill": [1, 2, 3],
    "mask_fill": None,
    "names": ["image"],
}
STEPS = [
    (image.resize(8, 9, fit="cover", resample="box", fill=(1, 2, 3)), "image.resize", RESIZE),
    (image.center_crop(8, 9), "image.center_crop", {"height": 8, "width": 9}),
    (image.convert("L"), "image.convert", {"mode": "L"}),
    (image.min_size(8, 9), "image.min_size", {"height": 8, "width": 9}),
    (image.max_aspect(2.5), "image.max_aspect", {"ratio": 2.5}),
    (keep(is_adult, "minor"), "keep", {"predicate": PREDICATE, "reason": "minor"}),
    (columns.where(is_adult, "minor"), "columns.where", {"predicate": PREDICATE, "reason": "minor"}),
    (columns.select("a", "b"), "columns.select", {"names": ["a", "b"]}),
    (columns.drop("a"), "columns.drop", {"names": ["a"]}),
    (columns.rename({"a": "b"}), "columns.rename", {"names": {"a": "b"}}),
    (columns.cast({"a": "int64", "b": pa.float32()}), "columns.cast", {"types": {"a": "int64", "b": "float"}}),
    (
        columns.fill({"a": 0, "b": b"\xff", "c": math.nan, "d": pa.scalar(2.5)}),
        "columns.fill",
        {"values": {"a": 0, "b": {"base64": "/w=="}, "c": {"float": "nan"}, "d": 2.5}},
    ),
    (
        dates.parse("sold", ("year",), unparsable="missing"),
        "dates.parse",
        {"name": "sold", "parts": ["year"], "unparsable": "missing"},
    ),
    (
        text.normalize("t", lower=False),
        "text.normalize",
        {"name": "t", "form": "NFKC", "lower": False, "strip": True},
    ),
    (text.limit("t", 9), "text.limit", {"name": "t", "characters": 9}),
    (
        text.wordpiece("t", PIECES, length=4),
        "text.wordpiece",
        {
            "name": "t",
            "tokenizer": {
                "vocabulary": {
                    "size": 3,
                    # printf '[UNK]\na\n##b\n' | sha256sum
                    "sha256": "b583bb83ba3b36166ab13eea2ab3393d1931ff2ae31c15725da1dba2f2ed01ac",
                },
                "lower": False,
                "unknown": "[UNK]",
                "longest": 100,
            },
            "output": "t",
            "length": 4,
            "padding": None,
        },
    ),
]
CODECS = [
    (image.jpeg(80), "jpeg", {"quality": 80}),
    (image.png(), "png", {}),
    (image.raw(), "raw", {}),
    (
        image.decode(mode="L", formats=("PNG",), max_pixels=9, strict=False, background=(1, 2, 3)),
        "image.decode",
        {
            "mode": "L",
            "formats": ["PNG"],
            "max_pixels": 9,
            "first_frame": False,
            "strict": False,
            "background": [1, 2, 3],
            "range": None,
            "mask_palette": None,
            "lossy_masks": False,
            "scale": None,
        },
    ),
]


def unwrapped(step: Any) -> Any:
    return step.function if isinstance(step, columns.Vectorized) else step


@pytest.mark.parametrize(("step", "name", "config"), STEPS, ids=[name for _, name, _ in STEPS])
def test_a_step_says_what_the_user_wrote(step: Any, name: str, config: dict[str, Any]) -> None:
    step = unwrapped(step)
    assert isinstance(step, Step)
    assert step.step_id == name
    assert json.loads(json.dumps(step.config(), allow_nan=False)) == config


@pytest.mark.parametrize(("codec", "name", "config"), CODECS, ids=[name for _, name, _ in CODECS])
def test_a_codec_says_what_the_user_wrote(codec: Any, name: str, config: dict[str, Any]) -> None:
    assert isinstance(codec, Codec)
    assert codec.codec_id == name
    assert json.loads(json.dumps(codec.config(), allow_nan=False)) == config


@pytest.mark.parametrize("made", [made for made, *_ in (*STEPS[:5], *CODECS)], ids=lambda made: type(made).__name__)
def test_the_arguments_make_the_same_again(made: Any) -> None:
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in made.config().items()}
    assert type(made)(**arguments) == made


def test_every_step_is_listed_here() -> None:
    """One that is not would have no test of its stored name."""
    modules = (columns, dates, image, text)
    classes = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    own = {kind.step_id for kind in classes if hasattr(kind, "step_id")}
    assert own | {"keep"} == {name for _, name, _ in STEPS}


def test_users_functions_have_no_such_name() -> None:
    assert not isinstance(is_adult, Step)
    assert not isinstance(unwrapped(columns.vectorized(lambda batch: batch)), Step)


def test_what_json_cannot_hold_is_named() -> None:
    assert as_json({"a": np.float32(0.5), "b": np.arange(2), "c": (-math.inf, True)}) == {
        "a": 0.5,
        "b": [0, 1],
        "c": [{"float": "-inf"}, True],
    }
    assert as_json(math.floor) == {"python": "math.floor"}
    assert as_json(object()) == {"python": "builtins.object"}
