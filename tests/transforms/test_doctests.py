"""The examples in the docstrings of `transforms` run, and every public function has one.

They call functions as users do, `image.resize(...)`, and may use `np`, `pa`, `pc`, `tf`, Pillow's `Image`, and
`inputs_of(age=[31, None])`: what `features` receives of these columns or pixels, with the statistics of the same.
"""

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tensorflow as tf
from PIL import Image

from penstock import transforms

from .tables import inputs

MODULES = sorted(module.name for module in pkgutil.iter_modules(transforms.__path__))
WITHOUT = {
    "exact.split",  # fills arrays that its callers keep
    "image_file.is_lossy",  # parts of image.decode
    "image_file.not_allowed",
    "image_file.open_image",
    "image_file.raw_mode",
    "image_file.unidentified",
    "jpeg.decode_jpeg",  # simplejpeg's, with arguments of ours
    "jpeg.load_jpeg",  # a part of image.decode
    "tiff.load_tiff",  # a part of image.decode
    "text.tfidf",  # analyzers of tf.Transform run in its own pass only
    "text.word_ids",
}


def load(name: str) -> Any:
    return importlib.import_module(f"penstock.transforms.{name}")


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    """Looking words up eagerly leaves its vocabulary in the default graph, where tf.Transform would trip over it."""
    yield
    tf.compat.v1.reset_default_graph()


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name: str, tmp_path: Path) -> None:
    def inputs_of(**columns: Any) -> Any:
        images = {name: values for name, values in columns.items() if isinstance(values, np.ndarray)}
        of_rows = {name: pa.array(values) for name, values in columns.items() if name not in images}
        return inputs(of_rows, folder=tmp_path, images=images)

    names = {"np": np, "pa": pa, "pc": pc, "tf": tf, "Image": Image, "inputs_of": inputs_of}
    failed, _ = doctest.testmod(load(name), extraglobs=names | {name: load(name)})
    assert not failed


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_has_an_example(name: str) -> None:
    module = load(name)
    own = {
        each: function
        for each, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not each.startswith("_")
    }
    without = {f"{name}.{each}" for each, function in own.items() if ">>> " not in (function.__doc__ or "")}
    assert without == {each for each in WITHOUT if each.startswith(f"{name}.")}
