"""Reads Parquet and ORC files in a process of its own: a damaged one can make Arrow crash, hang, or ask for all memory.

A request is (function, path or None, arguments). Of a file that is not local, the parent reads what the child asks for.
"""

import pickle
from collections.abc import Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from ..storage.child_process import limit_memory, read_message, serve_parent, write_message

DONE, FAILED, READ = "done", "failed", "read"
_GAP = 256 << 10  # bytes that are read rather than asked around


def metadata(file: Any) -> tuple[bytes, list[tuple[int, int]]]:
    """A file's columns, serialized, of which uint64 is int64 where all values fit; and each row group's rows and bytes.

    Where the file does not tell the largest value of a column, that is int64 too: a row with one beyond does not fit.

    Raises:
      ValueError: a row group has other types than the file.
    """
    with _open_parquet(file) as parquet:
        groups = [parquet.metadata.row_group(position) for position in range(parquet.num_row_groups)]
        check_types(parquet.metadata.schema, groups)
        sizes = [
            sum(group.column(column).total_compressed_size for column in range(group.num_columns)) for group in groups
        ]
        counts = [(group.num_rows, size) for group, size in zip(groups, sizes, strict=True)]
        return _as_signed(parquet.schema_arrow, groups).serialize().to_pybytes(), counts


def check_types(schema: Any, groups: Sequence[Any]) -> None:
    """Raises ValueError where a row group has another type than the file: some ways of reading overlook it."""
    for number, group in enumerate(groups):
        for position in range(group.num_columns):
            column, declared = group.column(position), schema.column(position).physical_type
            if column.physical_type != declared:
                raise ValueError(
                    f"expected {declared} in the column {column.path_in_schema!r} of row group {number}, "
                    f"found {column.physical_type}"
                )


def _as_signed(schema: pa.Schema, groups: Sequence[Any]) -> pa.Schema:
    """The columns; one of uint64 whose values all fit is int64."""
    beyond = set()
    if any(pa.types.is_uint64(each.type) for each in schema):
        for group in groups:
            for position in range(group.num_columns):
                statistics = group.column(position).statistics
                most = statistics.max if statistics is not None and statistics.has_min_max else 0
                if isinstance(most, int) and most >= 1 << 63:
                    beyond.add(group.column(position).path_in_schema)
    fits = [pa.types.is_uint64(each.type) and each.name not in beyond for each in schema]
    return pa.schema([each.with_type(pa.int64()) if fit else each for each, fit in zip(schema, fits, strict=True)])


def column_spans(file: Any, begin: int, end: int, names: list[str]) -> list[tuple[int, int]]:
    """Where the bytes of some row groups' columns are: from one offset to before another, those near each other as one.

    What a damaged file says of them is not trusted: spans are within the file.
    """
    with _open_parquet(file) as parquet:
        groups = [parquet.metadata.row_group(position) for position in range(begin, end)]
        chunks = [group.column(position) for group in groups for position in range(group.num_columns)]
    places = []
    for chunk in chunks:
        if any(chunk.path_in_schema == name or chunk.path_in_schema.startswith(f"{name}.") for name in names):
            offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
            start = min(offset for offset in offsets if offset)
            if 0 < start < start + chunk.total_compressed_size <= file.size():
                places.append((start, start + chunk.total_compressed_size))
    spans: list[tuple[int, int]] = []
    for start, stop in sorted(places):
        if spans and start <= spans[-1][1] + _GAP:
            spans[-1] = spans[-1][0], max(stop, spans[-1][1])
        else:
            spans.append((start, stop))
    return spans


def read_groups(file: Any, begin: int, end: int, names: list[str]) -> bytes:
    """Some row groups' columns as an Arrow stream.

    What does not hold together is refused: the parent may trust what it is given. Strings that are no UTF-8 are sent as
    bytes.
    """
    with _open_parquet(file) as parquet:
        table = parquet.read_row_groups(range(begin, end), names, use_threads=False)
    return _serialize(table)


def orc_metadata(file: Any) -> tuple[bytes, int]:
    """The columns of an ORC file, serialized, and how many stripes it has."""
    orc = _open_orc(file)
    return orc.schema.serialize().to_pybytes(), orc.nstripes


def read_stripe(file: Any, number: int, names: list[str]) -> bytes:
    """A stripe's columns as an Arrow stream; see `read_groups`."""
    return _serialize(pa.Table.from_batches([_open_orc(file).read_stripe(number, names)]))


def _serialize(table: pa.Table) -> bytes:
    """A table that holds together, as an Arrow stream."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        for convert in (_decoded, _as_bytes):
            table = table.cast(pa.schema([field.with_type(convert(field.type)) for field in table.schema]))
        table.validate(full=True)
    sink = pa.BufferOutputStream()
    table = table.unify_dictionaries()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _decoded(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    """The type with bytes for strings, alone or in a list."""
    if pa.types.is_string(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    return pa.list_(_as_bytes(kind.value_type)) if pa.types.is_list(kind) else kind


def _open_parquet(file: Any) -> Any:
    return pa.parquet.ParquetFile(file, page_checksum_verification=True)


def _open_orc(file: Any) -> Any:
    from pyarrow import orc  # only for those who have such files

    return orc.ORCFile(file)


class ParentFile:
    """A file that the parent reads."""

    closed = False
    mode = "rb"

    def __init__(self, size: int, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._size, self._place, self._requests, self._answers = size, 0, requests, answers

    def read(self, count: int = -1) -> bytes:
        left = self._size - self._place
        count = left if count < 0 else min(count, left)
        write_message(self._answers, pickle.dumps((READ, (self._place, count))))
        content = read_message(self._requests) or b""
        self._place += len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        """The parent closes it."""


def main() -> None:
    """Answers requests until the parent closes the pipe."""
    limit_memory()
    requests, answers = serve_parent()
    of_files = (metadata, column_spans, read_groups, orc_metadata, read_stripe)
    functions = {function.__name__: function for function in of_files}
    while request := read_message(requests):
        name, path, size, arguments = pickle.loads(request)
        answer: tuple[str, Any]
        try:
            file = path if path is not None else ParentFile(size, requests, answers)
            answer = DONE, functions[name](file, *arguments)
        except Exception as error:  # whatever it is, the file cannot be read
            answer = FAILED, f"{type(error).__name__}: {error}"
        write_message(answers, pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    main()
