"""A store that takes long to answer: local files by HTTP, read by ranges."""

import http.server
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class SlowStore:
    """A server's address, and what it was asked.

    Attributes:
      root: The folder that it serves.
      uri: Where that is for who asks.
      delay: Seconds to the first byte.
      requests: (path, first byte, byte after the last) of each GET, in order.
      most: How many requests were under way at a time, at most.
      fail: Told the path of a request, says whether it is answered by 503.
    """

    root: Path
    uri: str = ""
    delay: float = 0.0
    requests: list[tuple[str, int, int]] = field(default_factory=list)
    most: int = 0
    fail: Callable[[str], bool] = lambda _: False
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> int:
        """Bytes that were asked for."""
        return sum(stop - start for _, start, stop in self.requests)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1


@contextmanager
def serve(root: Path, delay: float = 0.0) -> Iterator[SlowStore]:
    """Serves a folder for as long as the block runs."""
    store = SlowStore(root, delay=delay)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            with store._counted():
                time.sleep(store.delay)
                file = root / self.path.lstrip("/")
                if store.fail(self.path) or not file.is_file():
                    self.send_response(503 if file.is_file() else 404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                size = file.stat().st_size
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                start, stop = (int(asked[1]), min(int(asked[2]) + 1, size)) if asked else (0, size)
                self.send_response(206 if asked else 200)
                if asked:
                    self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
                self.send_header("Content-Length", str(stop - start))
                self.send_header("Last-Modified", self.date_time_string(file.stat().st_mtime))
                self.send_header("ETag", f'"{file.stat().st_mtime_ns}"')
                self.end_headers()
                if with_body:
                    store.requests.append((self.path.lstrip("/"), start, stop))
                    with open(file, "rb") as opened, suppress(ConnectionError):
                        opened.seek(start)
                        self.wfile.write(opened.read(stop - start))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    store.uri = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
