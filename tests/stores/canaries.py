"""The search for credentials: in objects, files and whatever a test printed."""

import base64
import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from stores.servers import BUCKETS, Store

from penstock.pipeline.storage import files


def pattern(secrets: Iterable[str]) -> re.Pattern[bytes]:
    """Matches any of some secrets, as it is, in a URL, or in Base64."""
    forms: set[bytes] = set()
    for secret in secrets:
        forms |= {secret.encode(), quote(secret, safe="").encode(), base64.b64encode(secret.encode()).rstrip(b"=")[:-1]}
    return re.compile(b"|".join(re.escape(form) for form in sorted(forms)) or b"(?!)")


def find_in(contents: Iterable[tuple[str, bytes]], secrets: Iterable[str]) -> list[str]:
    """The names of those contents that hold one of some secrets, or whose name does."""
    secret = pattern(secrets)
    return [name for name, content in contents if secret.search(content) or secret.search(name.encode())]


def objects(store: Store) -> Iterator[tuple[str, bytes]]:
    """All that a store holds."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.variables().items():
            patch.setenv(name, value)
        for bucket in BUCKETS:
            uris = [info.uri for info in files.list_folder(f"{store.scheme}://{bucket}")]
            yield from zip(uris, files.map_files(files.read_bytes, uris), strict=True)


def local_files(folder: Path, without: Path) -> Iterator[tuple[str, bytes]]:
    """All files below a folder, but for those below another one."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and without not in path.parents:
            yield str(path), path.read_bytes()


@contextlib.contextmanager
def searched(server: contextlib.AbstractContextManager[Store], secrets: set[str]) -> Iterator[Store]:
    """A store; at the end all of its objects are searched for its credentials."""
    with server as store:
        secrets.update(store.secrets)
        yield store
        hits = find_in(objects(store), secrets)
        assert not hits, f"expected no credential in any object, found some in {hits}"
