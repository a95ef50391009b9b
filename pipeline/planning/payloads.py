"""Hashes of images' payloads, by which duplicates are found."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from ...transforms.outcome import Rejected
from ..prepare.threads import ordered_map
from ..sources.archive_members import file_of
from ..sources.listed_payload import read_payload
from ..storage import files

CANDIDATES = pa.schema([("rid", pa.int64()), ("uri", pa.string()), ("size", pa.int64())])
CONTENTS = pa.schema([("rid", pa.int64()), ("content", pa.string())])
READ_HERE = 1 << 30  # bytes of payloads that a launcher hashes itself, though it could have workers do it

# Takes a hash over the input, and payloads as CANDIDATES, always in the same order; gives CONTENTS.
PayloadHasher = Callable[[str, Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def hash_payload(uri: str) -> str | None:
    """The SHA-256 of a payload; None where it cannot be read."""
    try:
        return files.sha256(uri)[0] if file_of(uri) == uri else hashlib.sha256(read_payload(uri)).hexdigest()
    except (OSError, Rejected):
        return None


def hash_here(candidates: Iterator[pa.RecordBatch], threads: int) -> Iterator[pa.RecordBatch]:
    """Hashes payloads in this process: CANDIDATES in, CONTENTS of those that can be read out."""
    with ThreadPoolExecutor(threads) as pool:
        for batch in candidates:
            hashes = list(ordered_map(pool, hash_payload, batch["uri"].to_pylist(), 4 * threads))
            hashed = pa.RecordBatch.from_arrays([batch["rid"], pa.array(hashes, pa.string())], schema=CONTENTS)
            yield hashed.filter(hashed["content"].is_valid())
