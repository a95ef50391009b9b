"""What an analyzer has accumulated, as bytes: of NumPy's arrays, of tf.Transform's tuples and of its sketches."""

import io
import pickle
from typing import Any

import pyarrow as pa
from tfx_bsl import sketches

_HEADER = 8  # bytes that tell how many there are before compression
_SKETCHES = sketches.QuantilesSketch.__module__
_KNOWN = {
    ("builtins", "tuple"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    (_SKETCHES, "QuantilesSketch"),
}


def encode(value: Any) -> bytes:
    """The bytes of accumulators, however they are nested in dicts, lists and tuples."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    content = buffer.getbuffer()
    return len(content).to_bytes(_HEADER, "little") + bytes(pa.compress(content, "zstd", asbytes=True))


def decode(content: bytes) -> Any:
    """Reads them back; tuples with names come back without these.

    Raises:
      pickle.UnpicklingError: it holds anything but what `encode` writes: nothing else is imported or called.
    """
    size = int.from_bytes(content[:_HEADER], "little")
    return _Unpickler(pa.py_buffer(pa.decompress(content[_HEADER:], size, "zstd"))).load()


class _MisraGries:
    """Restores a sketch that cannot be pickled."""

    def __new__(cls, content: bytes) -> Any:
        return sketches.MisraGriesSketch.Deserialize(content)


_KNOWN.add((_MisraGries.__module__, _MisraGries.__name__))


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple, (list(value),)
        if isinstance(value, sketches.MisraGriesSketch):
            return _MisraGries, (value.Serialize(),)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: pa.Buffer) -> None:
        super().__init__(pa.BufferReader(content))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"expected accumulators of analyzers, found {module}.{name}")
        return super().find_class(module, name)
