"""A proxy between a client and a store's server: it lets time pass, and spoils requests as its `Faults` say.

The Host header goes through as it is, so that signatures hold.
"""

import asyncio
import itertools
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

STATUSES = {
    "408": "408 Request Timeout",
    "429": "429 Too Many Requests",
    "500": "500 Internal Server Error",
    "503": "503 Slow Down",
}
BEFORE = (*STATUSES, "reset", "reset_upload", "stall")  # the request never reaches the store
AFTER = ("lost", "late_500", "truncate", "stall_body")  # the store has done it
MODES = (*BEFORE, *AFTER)
RETRY_AFTER = 1  # seconds, with a 429
_LONG = 600.0  # seconds; longer than any client waits
_ERROR = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
      kind: `get`, `head`, `list`, `put`, `create`, `replace`, `delete`, `delete_many`, or of a write in parts `begin`,
        `part`, `complete`, `abort`.
      target: Path and query.
      range: The Range header.
    """

    kind: str
    target: str
    range: str = ""


def call(method: str, target: str, headers: Mapping[str, str]) -> Call:
    """Which call of S3's, GCS's or Azure's API a request is."""
    query = dict(parse_qsl(target.partition("?")[2], keep_blank_values=True))
    kind = method.lower()
    if method == "GET" and (query.keys() & {"list-type"} or query.get("comp") == "list"):
        kind = "list"
    elif method == "POST":
        kind = "begin" if "uploads" in query else "complete" if "uploadId" in query else "delete_many"
    elif method == "DELETE" and "uploadId" in query:
        kind = "abort"
    elif method == "PUT" and ("partNumber" in query or query.get("comp") == "block"):
        kind = "part"
    elif method == "PUT" and query.get("comp") == "blocklist":
        kind = "complete"
    elif method == "PUT":
        generation = headers.get("x-goog-if-generation-match")
        if headers.get("if-none-match") == "*" or generation == "0":
            kind = "create"
        elif "if-match" in headers or generation:
            kind = "replace"
    return Call(kind, target, headers.get("range", headers.get("x-ms-range", "")))


Faults = Callable[[Call], str]


def no_faults(_: Call) -> str:
    return ""


class Scripted:
    """The next requests of some kinds suffer one mode after the other; an empty one is spared."""

    def __init__(self, modes: Iterable[str], kinds: Sequence[str] = ()) -> None:
        self._modes = iter(modes)
        self._kinds = kinds

    def __call__(self, asked: Call) -> str:
        return "" if self._kinds and asked.kind not in self._kinds else next(self._modes, "")


class Seeded:
    """A share of the requests suffers faults; none of them more than `in_a_row` times, so that retries suffice.

    Args:
      seed: Of what happens.
      rate: The share.
      modes: What may happen; all alike.
      in_a_row: How often the same request fails before it is spared; None: for ever.
      limit: How many faults there are in all; None: no limit.
    """

    def __init__(
        self,
        seed: int,
        rate: float,
        modes: Sequence[str] = MODES,
        in_a_row: int | None = 2,
        limit: int | None = None,
    ) -> None:
        self._random = random.Random(seed)
        self._rate = rate
        self._modes = modes
        self._in_a_row = in_a_row
        self._left = limit
        self._failed: Counter[Call] = Counter()

    def __call__(self, asked: Call) -> str:
        if self._random.random() >= self._rate or self._left == 0:
            self._failed.pop(asked, None)
            return ""
        if self._in_a_row is not None and self._failed[asked] >= self._in_a_row:
            self._failed.pop(asked, None)
            return ""
        self._failed[asked] += 1
        if self._left is not None:
            self._left -= 1
        return self._random.choice(self._modes)


@dataclass
class Seen:
    """What a proxy saw and did: calls by kind, faults by mode and by kind and mode."""

    calls: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    spoiled: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0
    at_once: int = 0


class Proxy:
    """Listens on a free port of this machine, in a thread of its own.

    Args:
      upstream: The server's port.
      latency: Seconds that each request waits before it goes on.
      faults: Says of each request what happens to it: one of `MODES`, or nothing.
    """

    def __init__(self, upstream: int, latency: float = 0.0, faults: Faults = no_faults) -> None:
        self._upstream = upstream
        self.latency = latency
        self.faults = faults
        self.seen = Seen()
        self.port = 0
        self._busy = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="proxy", daemon=True)
        self._thread.start()
        assert ready.wait(30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self, faults: Faults = no_faults, latency: float = 0.0) -> Seen:
        """Begins anew; returns what it saw so far."""
        seen, self.seen, self.faults, self.latency = self.seen, Seen(), faults, latency
        return seen

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 20, backlog=512)
        )
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.close()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = Upstream(self._upstream)
        try:
            while await self._pass_on(reader, writer, upstream):
                pass
        except (OSError, EOFError, ValueError):  # either side has gone
            pass
        finally:
            upstream.close()
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: "Upstream") -> bool:
        """One request and its answer; whether the connection may have another."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, headers = parse(head)
        method, target, _ = first.split(" ", 2)
        asked = call(method, target, headers)
        seen = self.seen
        seen.calls[asked.kind] += 1
        mode = self.faults(asked)
        if mode:
            seen.faults[mode] += 1
            seen.spoiled[asked.kind, mode] += 1
        self._busy += 1
        seen.at_once = max(seen.at_once, self._busy)
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            if headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
            if mode == "reset":
                return reset(writer)
            if mode == "reset_upload":
                await reader.readexactly(int(headers.get("content-length") or 0) // 2)
                return reset(writer)
            body = await read_body(reader, headers)
            seen.bytes_in += len(body)
            if mode in STATUSES:
                writer.write(refusal(STATUSES[mode], method))
                await writer.drain()
                return True
            if mode == "stall":
                await asyncio.sleep(_LONG)
                return reset(writer)
            answer, content = await upstream.ask(head + body, method)
            if mode == "lost":
                return reset(writer)
            if mode == "late_500":
                writer.write(refusal(STATUSES["500"], method))
                await writer.drain()
                return True
            if mode == "truncate":
                whole = answer + content
                writer.write(whole[: len(answer) + len(content) // 2] if content else whole[: len(whole) // 2])
                await writer.drain()
                return False
            if mode == "stall_body":
                writer.write(answer[: len(answer) // 2])
                await writer.drain()
                await asyncio.sleep(_LONG)
                return reset(writer)
            writer.write(answer + content)
            seen.bytes_out += len(content)
            await writer.drain()
            return parse(answer)[1].get("connection", "").lower() != "close"
        finally:
            self._busy -= 1


class Upstream:
    """A connection to the server, opened when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes, method: str) -> tuple[bytes, bytes]:
        """An answer's head and body. A connection that the server has closed meanwhile is opened again."""
        reused = self._streams is not None
        try:
            return await self._ask(request, method)
        except (OSError, EOFError):
            self.close()
            if not reused:
                raise
            return await self._ask(request, method)

    async def _ask(self, request: bytes, method: str) -> tuple[bytes, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        while answer.split(b" ", 2)[1] == b"100":
            answer = await reader.readuntil(b"\r\n\r\n")
        _, headers = parse(answer)
        bodiless = method == "HEAD" or answer.split(b" ", 2)[1] in (b"204", b"304")
        content = b"" if bodiless else await read_body(reader, headers)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return answer, content

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def parse(head: bytes) -> tuple[str, dict[str, str]]:
    """The first line, and the headers by their names in small letters."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, {name.strip().lower(): value.strip() for name, _, value in pairs}


async def read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """A body as it stands on the wire."""
    if "chunked" not in headers.get("transfer-encoding", ""):
        return await reader.readexactly(int(headers.get("content-length") or 0))
    chunks = []
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        chunks += [line, await reader.readexactly(size + 2)]
        if size == 0:
            return b"".join(chunks)


def refusal(status: str, method: str) -> bytes:
    body = _ERROR if status.startswith("503") and method != "HEAD" else b""  # what other statuses mean, they say alone
    later = f"Retry-After: {RETRY_AFTER}\r\n" if status.startswith("429") else ""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\n{later}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def reset(writer: asyncio.StreamWriter) -> bool:
    """Breaks a connection so that the other side sees a reset, not an end."""
    connection: Any = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


def cycle(modes: Sequence[str] = MODES) -> Iterable[str]:
    """Every second request suffers, one mode after the other."""
    return itertools.chain.from_iterable((mode, "") for mode in itertools.cycle(modes))
