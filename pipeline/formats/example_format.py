"""The wire format of tf.train.Example: the facts that its writers and readers share. Standard library only.

    Example   { Features features = 1; }              Feature { BytesList = 1 | FloatList = 2 | Int64List = 3 }
    Features  { map<string, Feature> feature = 1; }   each list: repeated value = 1, numbers packed

Everything down to a string or a list of packed numbers is length-delimited: a tag, a length as a varint, and so many
bytes. A varint has seven bits a byte, the lowest first, and the top bit set in all bytes but the last; an int64 is one
in two's complement, of at most ten bytes; a float32 has four bytes, little-endian.
(tensorflow/core/example/{example,feature}.proto; protobuf.dev/programming-guides/encoding.)

Four modules have this format in code of their own, each for speed, and so that none needs TensorFlow: `example_writer`
writes one example or columns through Arrow; `example_reader` reads one record without a copy, `example_columns`
many of a table at a time, `example_row` one of a table, or what an image has beside its pixels.
"""

from collections.abc import Mapping
from typing import Any

# Field numbers of the messages above; of an entry of the map, its name's and its Feature's.
FEATURES = ENTRY = ITEMS = NAME = 1
VALUE = 2
BYTES, FLOATS, INTEGERS = 1, 2, 3  # a Feature's kinds of lists

LENGTH_DELIMITED = 2  # the wire type
LONGEST_VARINT = 10  # bytes

# What kind of list holds the values of a stored dtype.
KINDS: Mapping[str, int] = {"string": BYTES, "float32": FLOATS, "int64": INTEGERS}

# What stands in a batch for a value that is missing: an example that lacks one has no entry for it.
MISSING_VALUES: Mapping[str, Any] = {"int64": -(2**63), "float32": float("nan"), "string": b""}


def tag(number: int) -> int:
    """The byte before a length-delimited field."""
    return number << 3 | LENGTH_DELIMITED
