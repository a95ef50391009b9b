"""A store that reads like S3 and answers late: serves the folders below another one as buckets, read only.

    python benchmarks/_latency_store.py FOLDER --latency 0.150

Each answer begins so many seconds after its request, however many are under way. It stands in for a store far away on a
machine without a network to one, and costs so little CPU time that it doesn't compete with what is measured: about a
tenth of a millisecond a request. It knows GET with ranges, HEAD and ListObjectsV2, checks no signatures, and prints its
endpoint's URL when it is ready.
"""

import argparse
import asyncio
import bisect
import contextlib
import datetime
import math
import os
import subprocess
import sys
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
    _listed: dict[str, list[str]] = field(default_factory=dict)

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
        keys = self._keys(bucket)
        entries: list[str] = []
        more = False
        at = max(bisect.bisect_left(keys, prefix), bisect.bisect_right(keys, after))
        while at < len(keys) and keys[at].startswith(prefix) and not more:
            cut = keys[at].find(delimiter, len(prefix)) if delimiter else -1
            entry = keys[at] if cut < 0 else keys[at][: cut + len(delimiter)]
            if entry > after:
                more = len(entries) == int(parameters.get("max-keys", _PAGE))
                entries += [] if more else [entry]
            at = at + 1 if cut < 0 else bisect.bisect_left(keys, entry + "\U0010ffff")
        body = [f"<IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(entries)}</KeyCount>"]
        if more:
            body.append(f"<NextContinuationToken>{escape(entries[-1])}</NextContinuationToken>")
        for key in entries:
            if delimiter and key.endswith(delimiter):
                body.append(f"<CommonPrefixes><Prefix>{escape(key)}</Prefix></CommonPrefixes>")
                continue
            status = (self.root / bucket / key).stat()
            body.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{_iso(status.st_mtime)}</LastModified>"
                f"<ETag>{_etag(status)}</ETag><Size>{status.st_size}</Size></Contents>"
            )
        return f"<ListBucketResult><Name>{bucket}</Name>{''.join(body)}</ListBucketResult>".encode()

    def _keys(self, bucket: str) -> list[str]:
        """All keys of a bucket, sorted; what is written later is not listed."""
        if bucket not in self._listed:
            folder = self.root / bucket
            paths = [Path(parent) / name for parent, _, names in os.walk(folder) for name in names]
            self._listed[bucket] = sorted(path.relative_to(folder).as_posix() for path in paths)
        return self._listed[bucket]


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


@dataclass
class Running:
    """The store in a process of its own.

    Attributes:
      url: Its endpoint.
      process: The process.
    """

    url: str
    process: subprocess.Popen[str]

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it for s3://."""
        keys = {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"}
        return {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": "us-east-1", **keys}

    def cpu(self) -> float:
        """The CPU seconds that it took so far; NaN where the system does not tell."""
        path = Path(f"/proc/{self.process.pid}/stat")
        if not path.exists():
            return math.nan
        user, system = path.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(root: Path, latency: float) -> Iterator[Running]:
    """Serves a folder while the block lasts."""
    command = [sys.executable, __file__, str(root), "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError(f"{' '.join(command)}: expected a URL, found none; see its output above")
            yield Running(url, process)
        finally:
            process.terminate()


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
