"""What is said of an example that cannot be used, or isn't wanted."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from ..formats.manifest import StoredFile
from ..storage import files
from ..storage.scratch import ScratchFolder


@dataclass(frozen=True)
class QuarantinedExample:
    """Why an example went to the quarantine: one line of a quarantine file.

    Attributes:
      key: The example's key.
      uri: The payload that could not be used.
      stage: Where it failed: `plan`, `read`, `split`, `decode`, `prepare` or `encode`.
      code: The reason in snake_case, for counting.
      message: The reason in words.
      sha256: The payload's content hash; None where it was not read.
    """

    key: str
    uri: str
    stage: str
    code: str
    message: str
    sha256: str | None = None

    def to_line(self) -> bytes:
        """The line, a JSON object."""
        return json.dumps(asdict(self), sort_keys=True).encode() + b"\n"


SHOWN = 2  # examples of one reason that an error names


class QuarantineFile:
    """Quarantined examples, as lines of a file in a temporary folder until a run takes it.

    Attributes:
      counts: Reason code to how many.
      first: Reason code to the first few.
    """

    def __init__(self, examples: Iterable[QuarantinedExample] = ()) -> None:
        self._folder = ScratchFolder()
        self._path = os.path.join(self._folder.path, "quarantine.jsonl")
        self.counts: Counter[str] = Counter()
        self.first: dict[str, list[QuarantinedExample]] = {}
        digest, self._size = hashlib.sha256(), 0
        with open(self._path, "wb") as file:
            for example in examples:
                line = example.to_line()
                file.write(line)
                digest.update(line)
                self._size += len(line)
                self.counts[example.code] += 1
                if self.counts[example.code] <= SHOWN:
                    self.first.setdefault(example.code, []).append(example)
        self._sha256 = digest.hexdigest()

    def __len__(self) -> int:
        return self.counts.total()

    def __iter__(self) -> Iterator[QuarantinedExample]:
        with open(self._path, "rb") as file:
            for line in file:
                yield QuarantinedExample(**json.loads(line))

    def stored(self, path: str) -> StoredFile | None:
        """The file at a path of a generation that `write` makes; None where there are no examples."""
        return StoredFile(path, len(self), self._size, self._sha256) if len(self) else None

    def write(self, uri: str) -> None:
        """Writes the file; without examples removes what an earlier run left there."""
        if not len(self):
            files.remove(uri)
            return
        with open(self._path, "rb") as source, files.create(uri) as target:
            shutil.copyfileobj(source, target)


def first_of_each(examples: Iterable[QuarantinedExample]) -> dict[str, str]:
    """Reason code to an example: its key, and its message."""
    found: dict[str, str] = {}
    for example in examples:
        found.setdefault(example.code, f"{example.key}: {example.message}")
    return found


FORGOTTEN = "forgotten"  # the reason by which examples are filtered that are to be named nowhere
LISTED = 10_000  # examples of one reason that a file of filtered examples lists


@dataclass(frozen=True)
class FilteredExample:
    """An example that a filter did not want, and the filter's reason: one line of a file of filtered examples."""

    key: str
    reason: str

    def to_line(self) -> bytes:
        """The line, a JSON object."""
        return json.dumps(asdict(self), sort_keys=True).encode() + b"\n"


def limit(examples: Iterable[FilteredExample]) -> list[FilteredExample]:
    """The first examples of each reason, as many as are listed."""
    listed: list[FilteredExample] = []
    counts: dict[str, int] = {}
    for example in examples:
        counts[example.reason] = counts.get(example.reason, 0) + 1
        if counts[example.reason] <= LISTED:
            listed.append(example)
    return listed
