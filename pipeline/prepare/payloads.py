"""Reads examples' payloads; tells an example that cannot be read from a disk or a store that cannot be."""

import errno
import threading
from dataclasses import dataclass

from ...transforms.outcome import Rejected
from ..errors import PenstockError
from ..sources.archive_members import file_of, name_of
from ..sources.listed_payload import read_payload
from ..sources.listing import Reference
from ..sources.quarantine import QuarantinedExample
from ..storage import files
from ..storage.files import UnreachableError

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_IN_A_ROW = 32  # references are in random order: so many at the end of a row are no few examples' fault


@dataclass(frozen=True)
class Payloads:
    """The payloads of an example.

    Attributes:
      image: The content of the image's file.
      mask: That of its mask's; None where it has none.
    """

    image: bytes
    mask: bytes | None = None

    @property
    def size(self) -> int:
        """Their bytes."""
        return len(self.image) + len(self.mask or b"")


def read_payloads(reference: Reference, limit: int) -> Payloads:
    """The payloads of an example, each of which may have `limit` bytes.

    Raises:
      Rejected: one of them is not there, or not what was listed.
      OSError: one of them cannot be read.
    """
    image = read_payload(reference.uri, reference.size, reference.etag, limit)
    return Payloads(image, read_payload(reference.mask, limit=limit) if reference.mask else None)


def is_remote(reference: Reference) -> bool:
    """Whether a payload of an example is in a store."""
    return not (files.is_local(reference.uri) and (reference.mask is None or files.is_local(reference.mask)))


def unreadable(reference: Reference, error: Rejected | OSError) -> QuarantinedExample:
    """What becomes of an example whose payloads cannot be read.

    Raises:
      PenstockError: it is not the example's fault.
    """
    uri = name_of(reference.uri)
    if isinstance(error, Rejected):
        return QuarantinedExample(reference.key, uri, "read", error.code, error.message)
    if error.errno in _EXHAUSTED:
        raise PenstockError(
            f"{uri}: expected a file that can be opened, found this machine at its limit: {error}; raise the "
            "limit (ulimit -n) or use fewer threads"
        ) from error
    message = f"{type(error).__name__}: {error}"
    return QuarantinedExample(reference.key, uri, "read", "unreadable", message)


class PayloadReader:
    """Reads payloads from stores, from many threads.

    An object that is gone, or may not be read while others may, costs its example. A store that does not answer fails
    the run, and so does one that refuses everything, as when credentials expire: otherwise all that is left of the
    input would go to the quarantine.
    """

    def __init__(self, limit: int) -> None:
        """Reads nothing yet; `limit` is how many bytes a payload may have."""
        self._limit = limit
        self._lock = threading.Lock()
        self._failures = 0  # in a row
        self._readable = ""  # the URI of an object that could be read

    def __call__(self, reference: Reference) -> Payloads | QuarantinedExample:
        """The payloads of an example, or why it has none.

        Raises:
          PenstockError: the store cannot be read.
        """
        try:
            payloads = read_payloads(reference, self._limit)
        except Rejected as error:
            return unreadable(reference, error)
        except OSError as error:
            if not files.is_local(reference.uri):
                self._check_store(file_of(reference.uri), error)
            return unreadable(reference, error)
        with self._lock:
            self._failures = 0
            if payloads.image:
                self._readable = file_of(reference.uri)
        return payloads

    def _check_store(self, uri: str, failure: OSError) -> None:
        """Raises PenstockError where more than one object cannot be read."""
        with self._lock:
            self._failures += 1
            failures, readable = self._failures, self._readable
        is_web = uri.startswith(("https://", "http://"))  # where each object may be on a server of its own
        if isinstance(failure, UnreachableError) and not is_web:
            raise PenstockError(
                f"expected the store to answer, found: {failure}; run again when it does: what is finished stays"
            ) from failure
        if failures >= _IN_A_ROW:
            raise PenstockError(
                f"expected objects that can be read, found {failures} in a row that cannot, the last one: {failure}; "
                "check the credentials and the network, and run again: what is finished stays"
            ) from failure
        if readable and not is_web:
            try:
                files.read_range(readable, 0, 1)
            except FileNotFoundError:
                pass  # it tells nothing
            except OSError as error:
                raise PenstockError(
                    f"expected the store to let objects be read as before, found: {error}; check the credentials, and "
                    "run again: what is finished stays"
                ) from failure
