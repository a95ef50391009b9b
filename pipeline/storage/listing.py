"""Listing the objects below a prefix, many requests at a time, as Arrow columns.

A store lists keys in the order of their UTF-8 bytes, a page a request, and only the answer tells where the next page
begins. So what runs at one time are ranges of keys. A request that has no range to list takes a part of another's:
the range that showed most pages is split where about half of what may still come lies behind. Where a split proves
empty it has told where the keys end. Flat folders and deep trees are split alike.
"""

import bisect
import collections
import queue
import string
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import RequestError
from .stores import Bucket, StoreError, locate, redact

WAYS = 32
SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # relative to the folder
        ("size", pa.int64()),  # bytes
        ("modified", pa.timestamp("us", "UTC")),
        ("etag", pa.string()),  # without quotes; "" where the store has none
    ]
)
_PAGE = 1000  # keys
_RANGES_PER_PAGE = 32  # how many ranges may begin for each page that was listed
_SAMPLED = 10  # keys of a page that tell which characters keys are made of
_LAST = "~"  # behind what names are usually made of
_BEYOND = "\U0010fffd"  # behind whatever a folder holds
_CLASSES = (string.digits, string.ascii_lowercase, string.ascii_uppercase)


class KeyPattern(Protocol):
    """Which keys are looked for, relative to the folder that is listed."""

    def matches(self, key: str) -> bool:
        """Whether a key is one of them."""

    def select(self, keys: pa.StringArray) -> pa.BooleanArray:
        """Which of many keys are."""

    def dead_folder(self, key: str) -> str | None:
        """The outermost folder around a key that none of them can be in, if any."""


def list_batches(
    uri: str, pattern: KeyPattern | None = None, ways: int = WAYS, prefix: str = ""
) -> Iterator[pa.RecordBatch]:
    """The objects below a folder of a store, in no order, each once: batches of `SCHEMA`.

    What other programs write to stand for a folder (objects without content whose key ends in `/` or `_$folder$`) is
    left out.

    Args:
      uri: The folder.
      pattern: Which keys to list; all if not given. Folders that it cannot match in are passed over.
      ways: How many requests to make at a time.
      prefix: What all keys begin with that the pattern matches; others may be told too, if there is no pattern.

    Raises:
      OSError: the store cannot be listed.
      RequestError: a web server cannot.
    """
    if uri.startswith(("https:", "http:")):
        raise RequestError(
            f"{redact(uri)}: expected a store that lists what it has, found a web server; name each file"
        )
    bucket, key = locate(uri)
    folder = key.rstrip("/")
    lister = _Lister(bucket, folder, pattern)
    if not bucket.ordered:
        yield from lister.run(_KeyRange(""), 1)
    elif prefix:
        start = f"{folder}/{prefix}" if folder else prefix
        yield from lister.run(_KeyRange(_before(start), start + _BEYOND), ways)
    else:
        yield from lister.run(_KeyRange("", f"{folder}/{_BEYOND}" if folder else None), ways)


def _before(key: str) -> str:
    """A key behind all that are before a key, or at least before it: listing begins behind it."""
    last = ord(key[-1]) - 1
    if last <= ord(" ") or 0xD800 <= last <= 0xDFFF:
        return key[:-1].rstrip("/")
    return key[:-1] + chr(last) + _BEYOND


@dataclass(eq=False, slots=True)
class _KeyRange:
    """The keys from one on (itself left out) to another (itself included), as far as they were not listed yet.

    Attributes:
      position: The last key that was listed, or was passed over.
      until: The last key of the range; None: the last one that there is.
      pages: How many pages it showed since it was last split.
      full: Whether it showed a full page, so that there is more.
    """

    position: str
    until: str | None = None
    pages: int = 0
    full: bool = False


class _Alphabet:
    """Which characters keys have at each place: what lies between two keys is guessed by it."""

    def __init__(self) -> None:
        self._seen: dict[int, set[str]] = collections.defaultdict(set)
        self._sorted: dict[int, list[str]] = {}

    def learn(self, key: str) -> None:
        """Takes a key's characters."""
        for place, character in enumerate(key):
            if character not in self._seen[place]:
                self._seen[place].add(character)
                self._sorted.pop(place, None)

    def _between(self, place: int, low: str, high: str | None) -> list[str]:
        """The characters at a place between two others, in order: of those seen, and of their kind, and the last."""
        if place not in self._sorted:
            seen = self._seen[place]
            kinds = {each for kind in _CLASSES if not seen.isdisjoint(kind) for each in kind}
            self._sorted[place] = sorted((seen | kinds | {_LAST}) - {"/"})
        characters = self._sorted[place]
        end = len(characters) if high is None else bisect.bisect_left(characters, high)
        return characters[bisect.bisect_right(characters, low) : end]

    def middle(self, low: str, high: str | None) -> str | None:
        """A key between two, with about as many that may be before it as behind it; None if there is no telling.

        Where all keys have one character at a place, there may be no other: the next one is tried, which settles it.
        """
        pairs = enumerate(zip(low, high or "", strict=False))
        common = 0 if high is None else next((place for place, pair in pairs if len(set(pair)) > 1), len(low))
        for place in range(common, len(low)):
            bound = high[place] if high is not None and place == common and place < len(high) else None
            between = self._between(place, low[place], bound)
            if low[:place].rpartition("/")[2] in ("", "."):
                between = [each for each in between if each != "."]  # a folder . or .. cannot be asked for
            if between:
                return low[:place] + between[len(between) // 2 if len(self._seen[place]) > 1 else 0]
        return None


@dataclass(eq=False)
class _Lister:
    """One listing. The lock guards the ranges, their bounds and the alphabet."""

    bucket: Bucket
    folder: str
    pattern: KeyPattern | None
    _alphabet: _Alphabet = field(default_factory=_Alphabet)
    _running: list[_KeyRange] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _batches: "queue.Queue[pa.RecordBatch | BaseException | None]" = field(
        default_factory=lambda: queue.Queue(4 * WAYS)
    )
    _pages: int = 0  # listed
    _begun: int = 1  # ranges
    _closed: bool = False

    def run(self, keys: _KeyRange, ways: int) -> Iterator[pa.RecordBatch]:
        """Lists a range: the first page here, and if that is not all, the others by threads."""
        pages = self._list(keys)
        for batch in pages:
            yield from [batch] if batch.num_rows else []
            if ways > 1 and keys.full:
                break
        else:
            return
        self._running.append(keys)
        threads = [threading.Thread(target=self._work, args=(pages, keys), name="list-0", daemon=True)]
        threads += [threading.Thread(target=self._work, name=f"list-{i}", daemon=True) for i in range(1, ways)]
        for thread in threads:
            thread.start()
        try:
            ended = 0
            while ended < len(threads):
                item = self._batches.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    ended += 1
                else:
                    yield item
        finally:
            self._stop()  # threads in a request are not waited for

    def _stop(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _put(self, item: pa.RecordBatch | BaseException | None) -> None:
        while not self._closed:
            with suppress(queue.Full):
                self._batches.put(item, timeout=0.5)
                return

    def _work(self, pages: Iterator[pa.RecordBatch] | None = None, keys: _KeyRange | None = None) -> None:
        """A thread: lists its range, then parts of others' ranges, until all are listed."""
        try:
            while not self._closed:
                if keys is None or pages is None:
                    keys = self._take_part()
                    if keys is None:
                        break
                    pages = self._list(keys)
                for batch in pages:
                    if batch.num_rows:
                        self._put(batch)
                    if self._closed:
                        return
                with self._changed:
                    self._running.remove(keys)
                    self._changed.notify_all()
                keys = pages = None
        except BaseException as error:  # a panic of the client's is no Exception, and would be waited for for ever
            self._put(error)
        self._put(None)

    def _take_part(self) -> _KeyRange | None:
        """A part of a range that another thread lists; None once all is listed."""
        with self._changed:
            while self._running and not self._closed:
                if self._begun < _RANGES_PER_PAGE * self._pages and (part := self._split()):
                    self._begun += 1
                    self._running.append(part)
                    return part
                self._changed.wait()
            return None

    def _split(self) -> _KeyRange | None:
        for keys in sorted(self._running, key=lambda each: -each.pages):
            if not keys.full or not keys.position:
                continue
            middle = self._alphabet.middle(keys.position, keys.until)
            if middle is None or middle <= keys.position or (keys.until is not None and middle >= keys.until):
                continue
            part = _KeyRange(middle, keys.until)
            keys.until, keys.pages = middle, 0
            return part
        return None

    def _list(self, keys: _KeyRange) -> Iterator[pa.RecordBatch]:
        """Lists a range. A listing that was cut off is taken up again behind the last key that it told."""
        stream: Any = None
        more = True
        while more:

            def request() -> Any:
                nonlocal stream
                if stream is None:
                    stream = self.bucket.client.list(
                        self.folder or None, offset=keys.position or None, chunk_size=_PAGE, return_arrow=True
                    )
                try:
                    return next(stream, None)
                except Exception as error:
                    stream = None
                    if not self.bucket.ordered and self._pages:
                        raise StoreError(
                            f"{self.bucket.uri(self.folder)}: the listing was cut off, and this store, which lists in "
                            f"no order, cannot take it up; try again"
                        ) from error
                    raise

            page = self.bucket.call("list", self.folder, request)
            if page is None:
                return
            page = pa.record_batch(page)
            start = keys.position
            page, more = self._take(keys, page)
            if keys.position > start and self.bucket.ordered and more and self._pass_over(keys):
                stream = None
                more = keys.until is None or keys.position < keys.until
            yield self._select(page)

    def _take(self, keys: _KeyRange, page: pa.RecordBatch) -> tuple[pa.RecordBatch, bool]:
        """The part of a page that is in a range, and whether there may be more in it."""
        names, full = page.column("path"), page.num_rows == _PAGE
        with self._changed:
            self._pages += 1
            if not self.bucket.ordered:
                return page, full
            if keys.position:
                page = page.filter(pc.greater(names, keys.position))
                names = page.column("path")
            last = pc.max(names).as_py() or keys.position
            if keys.until is not None and last > keys.until:
                page, full = page.filter(pc.less_equal(names, keys.until)), False
            if full or keys.position or self._begun > 1:  # what one page holds whole may be in any order
                self._expect_order(page)
            keys.position, keys.full = last, full
            keys.pages += 1
            for row in range(0, page.num_rows, max(1, page.num_rows // _SAMPLED)):
                self._alphabet.learn(page.column("path")[row].as_py())
            self._changed.notify_all()
        return page, full

    def _expect_order(self, page: pa.RecordBatch) -> None:
        """Raises StoreError where keys are in no order; a folder's own object, whose key ends in /, seems to be."""
        names = page.filter(pc.greater(page.column("size"), 0)).column("path")
        if len(names) > 1 and not pc.all(pc.greater(names[1:], names[:-1])).as_py():
            raise StoreError(
                f"{self.bucket.uri(self.folder)}: expected the store to list keys in the order of their bytes, found "
                f"another order; objects could be lost: use a store that keeps to it"
            )

    def _pass_over(self, keys: _KeyRange) -> bool:
        """Whether the next page would be of a folder that the pattern cannot match in, and was passed over."""
        if self.pattern is None:
            return False
        dead = self.pattern.dead_folder(self._relative(keys.position))
        if dead is None:
            return False
        prefix = f"{self.folder}/" if self.folder else ""
        with self._changed:
            keys.position = f"{prefix}{dead}/{_BEYOND}"
        return True

    def _relative(self, key: str) -> str:
        return key[len(self.folder) + 1 :] if self.folder else key

    def _select(self, page: pa.RecordBatch) -> pa.RecordBatch:
        """What is looked for in a page, as `SCHEMA` has it."""
        keys = page.column("path")
        if self.folder:
            keys = pc.utf8_slice_codeunits(keys, len(self.folder) + 1)
        batch = pa.record_batch(
            [
                keys.cast(pa.string()),
                page.column("size").cast(pa.int64()),
                page.column("last_modified").cast(SCHEMA.field("modified").type),
                pc.fill_null(pc.replace_substring(page.column("e_tag"), '"', ""), ""),
            ],
            schema=SCHEMA,
        )
        batch = batch.filter(pc.not_equal(batch.column("key"), ""))  # an object of the folder's own key and a /
        batch = self._without_folders(batch)
        return batch if self.pattern is None else batch.filter(self.pattern.select(batch.column("key")))

    def _without_folders(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A page without the objects that stand for folders: their keys are told without the / at their end."""
        keys = batch.column("key")
        folders = set()
        for row in pc.indices_nonzero(pc.equal(batch.column("size"), 0)).to_pylist():
            key = keys[row].as_py()
            if self.pattern is not None and not self.pattern.matches(key):
                continue
            following = keys[row + 1].as_py() if row + 1 < len(keys) else f"{key}/"  # its own first, if it is a folder
            if "." in key.rpartition("/")[2] and not following.startswith(f"{key}/"):
                continue  # an empty file, with a suffix
            if self._is_folder(key):
                folders.add(row)
        if folders:
            batch = batch.take(pa.array(sorted(set(range(len(keys))) - folders), pa.int64()))
        return batch

    def _is_folder(self, key: str) -> bool:
        """Whether an object without content stands for a folder: there is none of its key as it is told."""
        if key.endswith("_$folder$"):
            return True
        full = f"{self.folder}/{key}" if self.folder else key
        try:
            meta = self.bucket.call("head", full, lambda: self.bucket.client.head(full))
        except FileNotFoundError:
            return True
        return bool(meta["size"])  # it is there, and has content: this is another
