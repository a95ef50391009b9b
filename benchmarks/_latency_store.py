"""A store that reads like S3 and answers late: serves the folders below another one as buckets, read only.

    python benchmarks/_latency_store.py FOLDER --latency 0.150

Each answer begins so many seconds after its request, however many are under way. It stands in for a store far away on a
machine without a network to one, and costs so little CPU time that it doesn't compete with what is measured: about a
tenth of a millisecond a request. It knows GET with ranges, HEAD and ListObjectsV2, checks no signatures, and prints its
endpoint's URL when it is ready.
"""

import argparse
import asyncio
import datetime
import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from xml.sax.saxutils import escape

_PAGE = 1000  # keys of a listing
_NOT_THERE = b"<Error><Code>NoSuchKey</Code></Error>"


@dataclass
class LatencyStore:
    """The answers of the store.

    Attributes:
      root: Its folders are the buckets.
      requests: How many were answered, by method.
    """

    root: Path
    requests: dict[str, int] = field(default_factory=dict)

    def answer(self, method: str, target: str, headers: dict[str, str]) -> bytes:
        """The whole answer to a request, its head included."""
        self.requests[method] = self.requests.get(method, 0) + 1
        path, _, query = target.partition("?")
        parameters = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        bucket, _, key = urllib.parse.unquote(path).lstrip("/").partition("/")
        if method == "GET" and "list-type" in parameters:
            return _response(200, self._list(bucket, parameters), {"Content-Type": "application/xml"})
        if method not in ("GET", "HEAD"):
            return _response(405, b"<Error><Code>MethodNotAllowed</Code></Error>", {})
        try:
            descriptor = os.open(self.root / bucket / key, os.O_RDONLY)
        except OSError:
            return _response(404, _NOT_THERE, {}, method)
        try:
            return _object(descriptor, method, headers.get("range"))
        finally:
            os.close(descriptor)

    def _list(self, bucket: str, parameters: dict[str, str]) -> bytes:
        """A page of keys, or of keys and common prefixes, after the one that the token or `start-after` names."""
        prefix, delimiter = parameters.get("prefix", ""), parameters.get("delimiter", "")
        after = parameters.get("continuation-token") or parameters.get("start-after", "")
        entries: dict[str, os.stat_result | None] = {}
        more = False
        for key, status in self._keys(bucket, prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            entry = key if cut < 0 else key[: cut + len(delimiter)]
            if entry <= after or entry in entries:
                continue
            if len(entries) == int(parameters.get("max-keys", _PAGE)):
                more = True
                break
            entries[entry] = None if cut >= 0 else status
        body = [f"<IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(entries)}</KeyCount>"]
        if more:
            body.append(f"<NextContinuationToken>{escape(list(entries)[-1])}</NextContinuationToken>")
        for key, status in entries.items():
            if status is None:
                body.append(f"<CommonPrefixes><Prefix>{escape(key)}</Prefix></CommonPrefixes>")
            else:
                modified = _iso(status.st_mtime)
                body.append(
                    f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified>"
                    f"<ETag>{_etag(status)}</ETag><Size>{status.st_size}</Size></Contents>"
                )
        return f"<ListBucketResult><Name>{bucket}</Name>{''.join(body)}</ListBucketResult>".encode()

    def _keys(self, bucket: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        """All keys of a bucket that begin with a prefix, sorted, each with its file's status."""
        folder = self.root / bucket
        top = folder / prefix.rpartition("/")[0]
        paths = [Path(parent) / name for parent, _, names in os.walk(top) for name in names]
        for key in sorted(path.relative_to(folder).as_posix() for path in paths):
            if key.startswith(prefix):
                yield key, (folder / key).stat()


def _object(descriptor: int, method: str, asked: str | None) -> bytes:
    """An object, or the range of it that is asked for."""
    status = os.fstat(descriptor)
    size = status.st_size
    headers = {"ETag": _etag(status), "Last-Modified": formatdate(status.st_mtime, usegmt=True)}
    if method == "HEAD":
        return _response(200, b"", {**headers, "Content-Length": str(size)}, method)
    if not asked:
        return _response(200, os.pread(descriptor, size, 0), headers)
    first, _, last = asked.removeprefix("bytes=").partition("-")
    begin = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if begin >= size:
        return _response(416, b"<Error><Code>InvalidRange</Code></Error>", {})
    content = os.pread(descriptor, end - begin, begin)
    return _response(206, content, {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{size}"})


def _response(status: int, body: bytes, headers: dict[str, str], method: str = "GET") -> bytes:
    fields = {"Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} x\r\n{head}\r\n".encode() + (body if method == "GET" else b"")


def _etag(status: os.stat_result) -> str:
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}"'


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class _Connection(asyncio.Protocol):
    """A connection: answers one request after the other."""

    def __init__(self, store: LatencyStore, latency: float) -> None:
        self._store, self._latency, self._read = store, latency, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            first, *lines = self._read[:end].decode("latin-1").split("\r\n")
            self._read = self._read[end + 4 :]
            method, target, _ = first.split(" ", 2)
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            asyncio.get_running_loop().call_later(self._latency, self._send, method, target, headers)

    def _send(self, method: str, target: str, headers: dict[str, str]) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._store.answer(method, target, headers))


async def serve(root: Path, latency: float, port: int = 0) -> None:
    """Serves until it is ended; prints its URL first."""
    store = LatencyStore(root)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(store, latency), "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serves a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.15, help="seconds to the first byte")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(serve(options.folder, options.latency, options.port))


if __name__ == "__main__":
    main()
