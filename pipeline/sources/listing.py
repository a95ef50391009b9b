"""What listing a source gives, whatever the source."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..storage.files import FileInfo
from .reference import QuarantinedExample, Reference
from .table_schema import TableSchema


@dataclass
class Listing:
    """What a source found.

    Attributes:
      references: The examples, in the order of their keys.
      problems: Examples that were found but cannot be prepared (no mask, no label, …).
      warnings: What the user should know: unmatched masks, list rows without an example, ….
      filtered: Filter reason to count, of examples that the source itself leaves out.
      schema: The columns that are joined to the examples; None where there are none.
      digest: A hash over every file that was found: relative path, bytes and time of change.
    """

    references: list[Reference]
    problems: list[QuarantinedExample] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    filtered: Counter[str] = field(default_factory=Counter)
    schema: TableSchema | None = None
    digest: str = ""


def digest_files(found: Iterable[tuple[str, FileInfo]]) -> str:
    """SHA-256 over (relative path, size, time of change), in the order given."""
    digest = hashlib.sha256()
    for key, info in found:
        digest.update(f"{key}\0{info.size}\0{info.modified!r}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
