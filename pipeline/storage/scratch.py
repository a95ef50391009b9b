"""A database in a temporary folder, for what may not fit in memory: beyond a limit its tables go to disk."""

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from ..cores import cores
from ..errors import PenstockError

BATCH_ROWS = 1 << 15
_MEMORY = "768MiB"  # of the tables and of each query together; what is beyond it goes to the folder
_THREADS = 4  # each has buffers of its own


class ScratchFolder:
    """A temporary folder that lasts as long as this object.

    Attributes:
      path: Where it is.
    """

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="penstock-")
        self.close = weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: str, owner: int) -> None:
    if os.getpid() == owner:  # a fork has the object, but not the folder
        shutil.rmtree(path, ignore_errors=True)


class ScratchDatabase:
    """DuckDB tables that last as long as this object. Rows have no order but what a query asks for."""

    def __init__(self) -> None:
        import duckdb  # takes 0.1 s: only for those who need it

        self._folder = ScratchFolder()
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": _MEMORY,
                "temp_directory": self._folder.path,
                "threads": min(cores(), _THREADS),
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )

    def run(self, statement: str, *values: Any) -> None:
        """Runs a statement whose `?` stand for the values.

        Raises:
          OSError: the disk is full, or what must be in memory at once does not fit.
        """
        self.rows(statement, *values)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query, of which there must be few; for others see `batches`.

        Raises:
          OSError: as `run`.
        """
        with self._connection.cursor() as cursor, _in_words():
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *values: Any) -> Any:
        """The first value of a query's first row.

        Raises:
          OSError: as `run`.
        """
        return self.rows(statement, *values)[0][0]

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The rows of a query, a batch at a time; tables may be written meanwhile.

        Raises:
          OSError: as `run`.
        """
        with self._connection.cursor() as cursor:
            with _in_words():
                reader = cursor.sql(query).to_arrow_reader(BATCH_ROWS)
            while True:
                with _in_words():
                    batch = next(reader, None)
                if batch is None:
                    return
                if len(batch):
                    yield batch

    def create(self, table: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Makes a table of batches, which are taken one at a time.

        Raises:
          OSError: as `run`; and whatever taking a batch raises.
        """
        self._take(f"CREATE TABLE {table} AS SELECT * FROM incoming", schema, batches)

    def append(self, table: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Adds the rows of batches to a table, by the names of its columns.

        Raises:
          OSError: as `run`; and whatever taking a batch raises.
        """
        self._take(f"INSERT INTO {table} BY NAME SELECT * FROM incoming", schema, batches)

    def _take(self, statement: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        errors: list[BaseException] = []

        def guarded() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except GeneratorExit:  # the database takes no more
                raise
            except BaseException as error:  # of which the database would hand on the words alone
                errors.append(error)
                raise

        with self._connection.cursor() as cursor, _in_words(errors):
            cursor.register("incoming", pa.RecordBatchReader.from_batches(schema, guarded()))
            try:
                cursor.execute(statement)
            finally:
                cursor.unregister("incoming")


@contextlib.contextmanager
def _in_words(raised: Sequence[BaseException] = ()) -> Iterator[None]:
    """Makes one line of the database's errors; where a batch's maker raised what they come from, raises that."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        if raised:
            raise raised[0] from None
        words = str(error).splitlines()[0]
        if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
            raise OSError(
                f"{tempfile.gettempdir()}: expected space for what does not fit in memory, found {words}; free "
                "some, or set TMPDIR to another disk"
            ) from error
        raise PenstockError(f"the plan's database failed: {words}") from error
