"""An S3 server in this process whose answers fail as a test says: what of the protocol the storage layer uses."""

import hashlib
import itertools
import re
import socket
import threading
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

STATUSES = ("408", "429", "500", "503")
FAULTS = (*STATUSES, "reset", "stall", "lost", "cut")
"""`reset`: closed before the request is applied; `lost`: after, without an answer; `cut`: amid the answer. A stub also
knows `late`: a second passes before the answer."""
SECRET = "s3cr3t/of+the/tests"


class S3Stub:
    """Buckets in memory, behind a port.

    Attributes:
      objects: Contents by bucket and key.
      requests: What was asked for: get, head, put, copy, delete, list, create, part, complete, abort.
      fault: Says what goes wrong with a request of a kind; None: nothing.
    """

    def __init__(self, *buckets: str, page: int = 1000) -> None:
        self.objects: dict[str, dict[str, bytes]] = {bucket: {} for bucket in buckets}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[str] = []
        self.fault: Callable[[str], str | None] = lambda kind: None
        self.page = page
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.numbers = itertools.count(1)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stub": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    stub: S3Stub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path, _, query = self.path.partition("?")
        bucket, _, key = urllib.parse.unquote(path).lstrip("/").partition("/")
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        kind = self._kind(asked)
        with self.stub.lock:
            self.stub.requests.append(kind)
            fault = self.stub.fault(kind)
        if fault in STATUSES:
            self._send(int(fault), _error("Fault"))
        elif fault == "stall":
            self.stub.closing.wait(20)
            self._drop()
        elif fault == "late":
            self.stub.closing.wait(1)
            with self.stub.lock:
                self._send(*self._apply(kind, bucket, key, asked, body))
        elif fault == "reset":
            self._drop()
        else:
            with self.stub.lock:
                status, answer, headers = self._apply(kind, bucket, key, asked, body)
            if fault == "lost":
                self._drop()
            else:
                self._send(status, answer, headers, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _kind(self, asked: dict[str, str]) -> str:
        match self.command:
            case "GET" if "list-type" in asked:
                return "list"
            case "POST":
                return "delete" if "delete" in asked else "create" if "uploads" in asked else "complete"
            case "PUT" if "uploadId" in asked:
                return "part"
            case "PUT" if "x-amz-copy-source" in self.headers:
                return "copy"
            case "DELETE" if "uploadId" in asked:
                return "abort"
        return self.command.lower()

    def _apply(
        self, kind: str, bucket: str, key: str, asked: dict[str, str], body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        if bucket not in self.stub.objects:
            return 404, _error("NoSuchBucket"), {}
        objects = self.stub.objects[bucket]
        match kind:
            case "get" | "head":
                return self._get(objects.get(key))
            case "put":
                there = objects.get(key)
                if self.headers.get("if-none-match") == "*" and there is not None:
                    return 412, _error("PreconditionFailed"), {}
                expected = self.headers.get("if-match")
                if expected is not None and (there is None or etag(there) != expected):
                    return (404, _error("NoSuchKey"), {}) if there is None else (412, _error("PreconditionFailed"), {})
                objects[key] = body
                return 200, b"", {"ETag": etag(body)}
            case "copy":
                source = urllib.parse.unquote(self.headers["x-amz-copy-source"]).lstrip("/").partition("/")
                content = self.stub.objects.get(source[0], {}).get(source[2])
                if content is None:
                    return 404, _error("NoSuchKey"), {}
                objects[key] = content
                answer = f"<CopyObjectResult><ETag>{escape(etag(content))}</ETag></CopyObjectResult>"
                return 200, answer.encode(), {}
            case "delete":
                keys = re.findall(r"<Key>([^<]*)</Key>", body.decode())
                for each in keys:
                    objects.pop(each, None)
                deleted = "".join(f"<Deleted><Key>{each}</Key></Deleted>" for each in keys)
                return 200, f"<DeleteResult>{deleted}</DeleteResult>".encode(), {}
            case "list":
                return 200, self._list(objects, asked), {}
        return self._upload(kind, objects, key, asked, body)

    def _get(self, content: bytes | None) -> tuple[int, bytes, dict[str, str]]:
        if content is None:
            return 404, _error("NoSuchKey"), {}
        headers = {"ETag": etag(content), "Last-Modified": "Thu, 26 Nov 2026 02:00:00 GMT"}
        if self.headers.get("if-match", etag(content)) != etag(content):
            return 412, _error("PreconditionFailed"), {}
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", "")):
            begin, end = int(wanted[1]), min(int(wanted[2]) + 1, len(content))
            if begin >= len(content):
                return 416, _error("InvalidRange"), {}
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
            return 206, content[begin:end], headers
        return 200, content, headers

    def _list(self, objects: dict[str, bytes], asked: dict[str, str]) -> bytes:
        prefix, start = asked.get("prefix", ""), max(asked.get("start-after", ""), asked.get("continuation-token", ""))
        keys = sorted(key for key in objects if key.startswith(prefix) and key > start)
        entries, folders = [], []
        if asked.get("delimiter"):
            deeper = {prefix + key[len(prefix) :].partition("/")[0] + "/" for key in keys if "/" in key[len(prefix) :]}
            folders, keys = sorted(deeper), [key for key in keys if "/" not in key[len(prefix) :]]
        page = keys[: self.stub.page]
        for key in page:
            entries.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-26T02:00:00.000Z</LastModified>"
                f"<ETag>{escape(etag(objects[key]))}</ETag><Size>{len(objects[key])}</Size></Contents>"
            )
        entries += [f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in folders]
        if len(keys) > len(page):
            entries.append(f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>")
        return f"<ListBucketResult>{''.join(entries)}</ListBucketResult>".encode()

    def _upload(
        self, kind: str, objects: dict[str, bytes], key: str, asked: dict[str, str], body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        """What an upload in parts asks for."""
        uploads = self.stub.uploads
        if kind == "create":
            name = f"upload{next(self.stub.numbers)}"
            uploads[name] = {}
            answer = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
            return 200, answer.encode(), {}
        if asked["uploadId"] not in uploads:
            return 404, _error("NoSuchUpload"), {}
        if kind == "part":
            uploads[asked["uploadId"]][int(asked["partNumber"])] = body
            return 200, b"", {"ETag": etag(body)}
        parts = uploads.pop(asked["uploadId"])
        if kind == "abort":
            return 204, b"", {}
        objects[key] = b"".join(parts[number] for number in sorted(parts))
        answer = (
            f"<CompleteMultipartUploadResult><ETag>{escape(etag(objects[key]))}</ETag></CompleteMultipartUploadResult>"
        )
        return 200, answer.encode(), {}

    def _send(self, status: int, answer: bytes, headers: dict[str, str] | None = None, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer[: len(answer) // 2] if cut else answer)
        if cut:
            self._drop()

    def _drop(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


def _error(code: str) -> bytes:
    return f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>It is so.</Message></Error>'.encode()
