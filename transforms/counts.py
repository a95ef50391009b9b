"""How often each value of a column occurs, exact: merged in any order and any grouping, counts give the same bits."""

import json
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NO_TOKENS = b"49d0cd50-04bb-48c0-bc6f-5b575dce351a"  # what tf.Transform writes into an empty vocabulary
_SLACK = 2**12  # entries that may wait to be merged, however few there are


class Vocabulary(NamedTuple):
    """The tokens of a vocabulary file.

    Attributes:
      tokens: Most frequent first, ties by the tokens' bytes.
      counts: How often each occurs.
      left_out: How many values have a token that no line of a file can hold, by reason: "empty" or "line_break".
      not_utf8: How many values have a token that is no UTF-8; these are in the vocabulary, as bytes.
    """

    tokens: list[bytes]
    counts: list[int]
    left_out: dict[str, int]
    not_utf8: int

    @property
    def lines(self) -> list[bytes]:
        """The file's lines: the tokens, or a stand-in where there are none, since TensorFlow reads no empty file."""
        return self.tokens or [NO_TOKENS]


class Counts:
    """How often each value occurs in a column of text, bytes or integers. Exact, in whatever order it is merged.

    Attributes:
      limit: More distinct values than this are not counted one by one: `exceeded` says so. None counts all.
      missing: How many values are null.
      total: How many values there are, those that are missing left out.
    """

    def __init__(
        self, limit: int | None = None, missing: int = 0, total: int = 0, pieces: Any = (), waiting: int | None = None
    ) -> None:
        self.limit = limit
        self.missing = missing
        self.total = total
        # tables of token (large_binary) and count (int64), each of distinct tokens; None where there were too many
        self._pieces: tuple[pa.Table, ...] | None = pieces
        # how many entries all pieces have together; `merge` knows it, and need not ask thousands of pieces
        self._waiting = sum(map(len, pieces or ())) if waiting is None else waiting
        if pieces and limit is not None and self._waiting > limit:
            self._merged()

    @classmethod
    def of(cls, array: pa.Array | pa.ChunkedArray, limit: int | None = None) -> "Counts":
        """Counts a column's values.

        Args:
          array: [n] text, bytes, integers (counted as their decimal text) or booleans (as 0 and 1), also as a
            dictionary; or lists of these, whose items are counted.
          limit: As the attribute.

        Raises:
          ValueError: it holds something else.
        """
        kind = array.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            return cls.of(pc.list_flatten(array), limit)
        if pa.types.is_dictionary(kind):
            if not isinstance(array, pa.DictionaryArray) or not _is_distinct(array.dictionary):
                return cls.of(array.cast(kind.value_type), limit)
            codes = np.asarray(array.indices.drop_null())
            counts = np.bincount(codes, minlength=len(array.dictionary))
            occur = pa.array(np.flatnonzero(counts))
            table = _table(array.dictionary.cast(pa.large_binary()), counts).take(occur)
            return cls(limit, array.null_count, len(codes), (table,))
        if pa.types.is_boolean(kind):
            return cls.of(array.cast(pa.int8()), limit)
        if not (pa.types.is_null(kind) or pa.types.is_integer(kind) or _is_token(kind)):
            raise ValueError(
                f"Counts.of: expected text, bytes, integers or booleans, found {kind}; cast the column to text before"
            )
        missing, total = array.null_count, len(array) - array.null_count
        counted = (pc.drop_null(array) if missing else array).value_counts()
        values = counted.field("values")
        tokens = (values if _is_token(kind) else values.cast(pa.string())).cast(pa.large_binary())
        return cls(limit, missing, total, (_table(tokens, counted.field("counts")),))

    def merge(self, other: "Counts") -> "Counts":
        """The counts of both together.

        Raises:
          ValueError: they have different limits.
        """
        if self.limit != other.limit:
            raise ValueError(f"Counts.merge: expected one limit, found {self.limit} and {other.limit}; use the same")
        pieces = None if self._pieces is None or other._pieces is None else (*self._pieces, *other._pieces)
        waiting = self._waiting + other._waiting
        if pieces and waiting > _SLACK and waiting > 2 * max(map(len, pieces)) + _SLACK:
            pieces = (_merge_tables(pieces),)
            waiting = len(pieces[0])
        return Counts(self.limit, self.missing + other.missing, self.total + other.total, pieces, waiting)

    def without(self, part: "Counts") -> "Counts | None":
        """The counts without those of a part of the values; None where there are too many distinct values."""
        table, others = self._merged(), part._merged()
        if table is None or others is None:
            return None
        others = others.set_column(1, "count", pc.negate(others["count"]))
        rest = _merge_tables((table, others))
        rest = rest.filter(pc.greater(rest["count"], 0))
        return Counts(self.limit, self.missing - part.missing, self.total - part.total, (rest,))

    @property
    def exceeded(self) -> bool:
        """Whether there are more distinct values than the limit."""
        return self._merged() is None

    @property
    def distinct(self) -> int:
        """How many distinct values there are.

        Raises:
          ValueError: more than the limit.
        """
        return len(self._merged_or_raise("distinct"))

    def top(self, k: int | None = None, min_count: int = 1) -> list[tuple[bytes, int]]:
        """The most frequent values with their counts.

        Args:
          k: How many; None gives all.
          min_count: Leaves out values that occur less often.

        Returns:
          (value, count), most frequent first, ties by the values' bytes: one order, whatever was merged how.

        Raises:
          ValueError: there are more distinct values than the limit.
        """
        table = self._merged_or_raise("top")
        table = table.filter(pc.greater_equal(table["count"], min_count))
        table = table.sort_by([("count", "descending"), ("token", "ascending")])[:k]
        return list(zip(table["token"].to_pylist(), table["count"].to_pylist(), strict=True))

    def vocabulary(self, top_k: int | None = None, min_count: int = 1) -> Vocabulary:
        """The tokens of a vocabulary file, one a line, and how many values have a token that no line can hold.

        Args:
          top_k: How many tokens; None takes all.
          min_count: Leaves out tokens that occur less often.

        Raises:
          ValueError: there are more distinct values than the limit.
        """
        left_out = {"empty": 0, "line_break": 0}
        kept: list[tuple[bytes, int]] = []
        not_utf8 = 0
        for token, count in self.top(None, min_count):
            if not token:
                left_out["empty"] += count
            elif b"\n" in token or b"\r" in token:  # TensorFlow's reader drops carriage returns
                left_out["line_break"] += count
            elif top_k is None or len(kept) < top_k:
                kept.append((token, count))
                not_utf8 += 0 if _is_utf8(token) else count
        return Vocabulary([token for token, _ in kept], [count for _, count in kept], left_out, not_utf8)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counts) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def to_bytes(self) -> bytes:
        """Its bytes, an Arrow stream ordered by token; equal counts have equal bytes."""
        table = self._merged()
        about = {"limit": self.limit, "missing": self.missing, "total": self.total, "exceeded": table is None}
        table = _table([], []) if table is None else table.sort_by("token")
        table = table.replace_schema_metadata({"counts": json.dumps(about, sort_keys=True)}).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return bytes(sink.getvalue())

    @classmethod
    def from_bytes(cls, content: bytes) -> "Counts":
        """Reads them back."""
        table = pa.ipc.open_stream(content).read_all()
        about = json.loads(table.schema.metadata[b"counts"])
        pieces = None if about["exceeded"] else (table.replace_schema_metadata(None),)
        return cls(about["limit"], about["missing"], about["total"], pieces)

    def _merged(self) -> pa.Table | None:
        if self._pieces is not None and len(self._pieces) != 1:
            self._pieces = (_merge_tables(self._pieces),)
        if self._pieces and self.limit is not None and len(self._pieces[0]) > self.limit:
            self._pieces = None
        return self._pieces[0] if self._pieces else None

    def _merged_or_raise(self, what: str) -> pa.Table:
        table = self._merged()
        if table is None:
            raise ValueError(
                f"Counts.{what}: expected up to {self.limit} distinct values, found more; count without a limit"
            )
        return table


def _is_token(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _is_distinct(dictionary: pa.Array) -> bool:
    """Whether these are strings, each once: then codes can be counted."""
    return _is_token(dictionary.type) and not dictionary.null_count and len(dictionary.unique()) == len(dictionary)


def _table(tokens: Any, counts: Any) -> pa.Table:
    schema = pa.schema([("token", pa.large_binary()), ("count", pa.int64())])
    return pa.table([tokens, counts], schema=schema)


def _merge_tables(pieces: tuple[pa.Table, ...]) -> pa.Table:
    merged = pa.concat_tables([_table([], []), *pieces]).group_by("token", use_threads=False)
    return merged.aggregate([("count", "sum")]).rename_columns(["token", "count"])


def _is_utf8(token: bytes) -> bool:
    try:
        token.decode()
    except UnicodeDecodeError:
        return False
    return True
