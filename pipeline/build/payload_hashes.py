"""Hashes payloads of images in a pipeline of its own, while a plan waits for them, to find those that are equal.

A plan leaves out duplicates before it cuts units. Where there is much to hash, workers do it: each task names some
payloads in a file, and leaves another with their hashes. What is there from an earlier attempt is not hashed again.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from ..cores import cores
from ..planning.payloads import CANDIDATES, CONTENTS, hash_payload
from ..prepare.threads import ordered_map
from ..storage import files

_TASK_BYTES = 256 << 20
_TASK_PAYLOADS = 10_000
_WAITS = 32  # payloads in stores that are read at a time


@dataclass(frozen=True)
class HashOptions:
    """What a worker must know to hash payloads.

    Attributes:
      folder: Where the tasks' files are.
      tasks: How many tasks there are.
      threads: Payloads hashed at a time by one worker; None: as many as it has cores.
    """

    folder: str
    tasks: int
    threads: int | None = 1


class HashPayloads(beam.DoFn):
    """Task numbers in; the same out, once their payloads are hashed."""

    def __init__(self, options: HashOptions) -> None:
        self._options = options

    def process(self, task: int) -> Iterator[int]:
        hash_task(self._options, task)
        yield task


def add_hashing(options: HashOptions, pipeline: beam.Pipeline) -> None:
    """Adds to a pipeline what hashes the payloads of all tasks."""
    _ = pipeline | "Tasks" >> beam.Create(range(options.tasks)) | "Hash" >> beam.ParDo(HashPayloads(options))


def write_tasks(folder: str, candidates: Iterator[pa.RecordBatch]) -> int:
    """Writes what each task is to hash; says how many there are.

    Args:
      folder: Where to.
      candidates: The payloads, always in the same order, as `CANDIDATES`.
    """
    tasks, size = 0, 0
    waiting: list[pa.RecordBatch] = []
    for batch in candidates:
        for begin in range(0, len(batch), _TASK_PAYLOADS // 10):
            part = batch.slice(begin, _TASK_PAYLOADS // 10)
            waiting.append(part)
            size += sum(max(0, each) for each in part["size"].to_pylist())
            if size >= _TASK_BYTES or sum(map(len, waiting)) >= _TASK_PAYLOADS:
                _write(_task(folder, tasks), waiting, CANDIDATES)
                tasks, size, waiting = tasks + 1, 0, []
    if waiting:
        _write(_task(folder, tasks), waiting, CANDIDATES)
        tasks += 1
    return tasks


def hash_task(options: HashOptions, task: int) -> None:
    """Hashes the payloads of a task, unless that was done before; those that cannot be read have no hash."""
    uris = _read(_task(options.folder, task))["uri"]
    target = _hashes(options.folder, task)
    if files.exists(target) and _read(target)["uri"].equals(uris):
        return
    threads = options.threads or cores()
    if not all(map(files.is_local, uris.to_pylist())):
        threads = max(threads, _WAITS)
    with ThreadPoolExecutor(threads, "hash") as pool:
        hashes = list(ordered_map(pool, hash_payload, uris.to_pylist(), 4 * threads))
    columns = [uris, pa.array(hashes, pa.string())]
    batch = pa.RecordBatch.from_arrays(columns, names=["uri", "content"])
    _write(target, [batch], batch.schema)


def read_hashes(folder: str, tasks: int) -> Iterator[pa.RecordBatch]:
    """The payloads that have a hash, and these, as `CONTENTS`."""
    for task in range(tasks):
        numbers, content = _read(_task(folder, task))["rid"], _read(_hashes(folder, task))["content"]
        hashed = pa.RecordBatch.from_arrays([numbers, content], schema=CONTENTS)
        yield hashed.filter(content.is_valid())


def _task(folder: str, task: int) -> str:
    return files.join(folder, f"{task:05d}.payloads")


def _hashes(folder: str, task: int) -> str:
    return files.join(folder, f"{task:05d}.hashes")


def _write(uri: str, batches: list[pa.RecordBatch], schema: pa.Schema) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.Table.from_batches(batches, schema).combine_chunks())
    files.write_bytes(uri, sink.getvalue().to_pybytes())


def _read(uri: str) -> pa.RecordBatch:
    return pa.ipc.open_file(files.read_bytes(uri)).get_batch(0)
