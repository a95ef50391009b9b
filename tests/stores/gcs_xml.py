"""GCS's XML API in front of an emulator that has only the JSON API: `gcs_xml.py PORT UPSTREAM [KEY.pem]`.

obstore reads and writes by the XML API. Objects are listed, read, created and replaced under a generation's condition,
written in parts, copied, and deleted; whatever else is asked gets a 501. With a public key every request must bear a
JSON web token that the key's owner signed.
"""

import base64
import hashlib
import http.client
import itertools
import json
import sys
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

_JSON = {"Content-Type": "application/json"}
_BYTES = {"Content-Type": "application/octet-stream"}
_CODES = {401: "AuthenticationRequired", 404: "NoSuchKey", 412: "PreconditionFailed", 501: "NotImplemented"}
_LOST_UPLOAD = "NoSuchUpload"


@dataclass(frozen=True)
class Reply:
    """An answer: status, headers but Content-Length, body; `length` where a HEAD's answer tells of a body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None


def error(status: int, code: str = "", message: str = "") -> Reply:
    code = code or _CODES.get(status, "InternalError")
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return Reply(status, {"Content-Type": "application/xml"}, body.encode())


class Uploads:
    """Parts of uploads that are not complete."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._parts: dict[str, dict[int, bytes]] = {}

    def begin(self) -> str:
        with self._lock:
            name = f"upload-{next(self._numbers)}"
            self._parts[name] = {}
            return name

    def add(self, name: str, number: int, content: bytes) -> bool:
        """Whether there is such an upload."""
        with self._lock:
            if name not in self._parts:
                return False
            self._parts[name][number] = content
            return True

    def content(self, name: str, numbers: list[int]) -> bytes | None:
        """The parts put together; None where there is no such upload, or not all of its parts."""
        with self._lock:
            parts = self._parts.get(name)
            return None if parts is None or not parts.keys() >= set(numbers) else b"".join(parts[n] for n in numbers)

    def end(self, name: str) -> bool:
        """Forgets an upload; whether there was one."""
        with self._lock:
            return self._parts.pop(name, None) is not None


class Bucket:
    """One connection to the JSON API."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._connection = http.client.HTTPConnection("127.0.0.1", upstream, timeout=60)

    def ask(
        self, method: str, path: str, query: Mapping[str, Any], body: bytes = b"", headers: Mapping[str, str] = _BYTES
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        for attempt in range(2):
            try:
                self._connection.request(method, target, body or None, dict(headers))
                response = self._connection.getresponse()
                return response.status, response.headers, response.read()
            except (http.client.HTTPException, ConnectionError):  # the emulator closed an idle connection
                self._connection.close()
                if attempt or method == "POST":
                    raise
        raise AssertionError


def tag(entry: Mapping[str, Any]) -> str:
    """The ETag that the XML API gives: the MD5 in hexadecimal."""
    return f'"{base64.b64decode(entry["md5Hash"]).hex()}"'


def http_date(moment: str) -> str:
    """An RFC 3339 moment as HTTP writes it."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.strptime(moment[:19], "%Y-%m-%dT%H:%M:%S"))


def object_path(bucket: str, key: str) -> str:
    return f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(key, safe='')}"


def describe(bucket: Bucket, name: str, key: str) -> dict[str, Any] | None:
    status, _, body = bucket.ask("GET", object_path(name, key), {})
    return json.loads(body) if status == 200 else None


def identity(entry: Mapping[str, Any]) -> dict[str, str]:
    """The headers that tell which version of an object it is."""
    return {"ETag": tag(entry), "x-goog-generation": str(entry["generation"])}


def put(bucket: Bucket, name: str, key: str, content: bytes, condition: str | None) -> Reply:
    query = {"uploadType": "media", "name": key}
    if condition is not None:
        query["ifGenerationMatch"] = condition
    status, _, body = bucket.ask("POST", f"/upload/storage/v1/b/{name}/o", query, content)
    if status != 200:
        return error(status, message=body.decode(errors="replace")[:200])
    entry = json.loads(body)
    if "md5Hash" not in entry:
        entry["md5Hash"] = base64.b64encode(hashlib.md5(content).digest()).decode()
    return Reply(200, identity(entry))


def read(bucket: Bucket, name: str, key: str, asked: Mapping[str, str], head: bool) -> Reply:
    """A GET or a HEAD of an object, as a whole or a range of it."""
    entry = describe(bucket, name, key)
    if entry is None:
        return error(404, message=key)
    wanted = asked.get("if-match")
    if wanted is not None and wanted not in ("*", tag(entry)):
        return error(412, message="If-Match")
    size = int(entry["size"])
    headers = {**identity(entry), "Last-Modified": http_date(entry["updated"]), "Accept-Ranges": "bytes"}
    headers["Content-Type"] = "application/octet-stream"
    if head:
        return Reply(200, headers, length=size)
    status, _, body = bucket.ask("GET", object_path(name, key), {"alt": "media"})
    if status != 200:
        return error(status, message=key)
    bounds = asked.get("range", "")
    if not bounds:
        return Reply(200, headers, body)
    first, _, last = bounds.removeprefix("bytes=").partition("-")
    begin = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if begin >= end:
        return error(416, "InvalidRange", bounds)
    return Reply(206, {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{size}"}, body[begin:end])


def copy(bucket: Bucket, name: str, key: str, source: str, condition: str | None) -> Reply:
    """Copies an object that a header names: its bucket, a slash and its key, percent-encoded."""
    source_bucket, _, source_key = urllib.parse.unquote(source).lstrip("/").partition("/")
    found = read(bucket, source_bucket, source_key, {}, head=False)
    if found.status != 200:
        return found
    stored = put(bucket, name, key, found.body, condition)
    if stored.status != 200:
        return stored
    text = f"<?xml version='1.0'?><CopyObjectResult><ETag>{escape(stored.headers['ETag'])}</ETag></CopyObjectResult>"
    return Reply(200, {**stored.headers, "Content-Type": "application/xml"}, text.encode())


def list_objects(bucket: Bucket, name: str, query: Mapping[str, str]) -> Reply:
    """The second version of listing: a page of keys and of prefixes."""
    asked: dict[str, Any] = {"maxResults": query.get("max-keys", "1000")}
    for ours, theirs in (("prefix", "prefix"), ("delimiter", "delimiter"), ("continuation-token", "pageToken")):
        if query.get(ours):
            asked[theirs] = query[ours]
    after = query.get("start-after", "")
    if after:
        asked["startOffset"] = after
    status, _, body = bucket.ask("GET", f"/storage/v1/b/{name}/o", asked)
    if status != 200:
        return error(status, "NoSuchBucket" if status == 404 else "", name)
    page = json.loads(body)
    lines = [
        f"<Contents><Key>{escape(entry['name'])}</Key><Size>{entry['size']}</Size><ETag>{escape(tag(entry))}</ETag>"
        f"<LastModified>{entry['updated'][:19]}.000Z</LastModified></Contents>"
        for entry in page.get("items", [])
        if entry["name"] > after or not after
    ]
    lines += [
        f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>"
        for prefix in page.get("prefixes", [])
        if prefix > after or not after
    ]
    if token := page.get("nextPageToken"):
        lines.append(f"<IsTruncated>true</IsTruncated><NextContinuationToken>{escape(token)}</NextContinuationToken>")
    text = f"<?xml version='1.0'?><ListBucketResult>{''.join(lines)}</ListBucketResult>"
    return Reply(200, {"Content-Type": "application/xml"}, text.encode())


class Signatures:
    """Checks the token that a request bears."""

    def __init__(self, key: Path | None) -> None:
        loaded = load_pem_public_key(key.read_bytes()) if key else None
        assert loaded is None or isinstance(loaded, rsa.RSAPublicKey)
        self._key = loaded

    def refuse(self, authorization: str) -> Reply | None:
        """Why a request is refused; None where it is not."""
        if self._key is None:
            return None
        signed, _, signature = authorization.removeprefix("Bearer ").rpartition(".")
        try:
            decoded = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
            self._key.verify(decoded, signed.encode(), padding.PKCS1v15(), SHA256())
        except (ValueError, InvalidSignature):
            return error(401, message="expected a token that the service account has signed")
        return None


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    upstream: int
    uploads: Uploads
    signatures: Signatures

    def setup(self) -> None:
        super().setup()
        self.bucket = Bucket(self.upstream)

    def log_message(self, format: str, *args: Any) -> None:
        sys.stderr.write(f"{self.command} {self.path} {args[1] if len(args) > 1 else ''}\n")

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        if path.startswith(("/storage/", "/upload/")):
            status, headers, content = self.bucket.ask(self.command, self.path, {}, body, _JSON)
            reply = Reply(status, {"Content-Type": headers.get("Content-Type", "application/json")}, content)
        else:
            name, _, key = path.lstrip("/").partition("/")
            asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
            refusal = self.signatures.refuse(self.headers.get("Authorization", ""))
            reply = refusal or self.choose(name, urllib.parse.unquote(key), asked, body)
        self.send_response(reply.status)
        for header, value in reply.headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    def choose(self, name: str, key: str, query: Mapping[str, str], body: bytes) -> Reply:
        """Which operation of the XML API a request is."""
        condition = self.headers.get("x-goog-if-generation-match")
        if source := self.headers.get("x-goog-copy-source"):
            return copy(self.bucket, name, key, source, condition)
        match self.command, bool(key):
            case "GET", False if query.get("list-type") == "2":
                return list_objects(self.bucket, name, query)
            case (("GET" | "HEAD"), True) if not query:
                asked = {header.lower(): value for header, value in self.headers.items()}
                return read(self.bucket, name, key, asked, self.command == "HEAD")
            case "PUT", True if not query:
                return put(self.bucket, name, key, body, condition)
            case "PUT", True if "uploadId" in query:
                etag = f'"{hashlib.md5(body).hexdigest()}"'
                known = self.uploads.add(query["uploadId"], int(query["partNumber"]), body)
                return Reply(200, {"ETag": etag}) if known else error(404, _LOST_UPLOAD)
            case "POST", True if "uploads" in query:
                upload = self.uploads.begin()
                text = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
                return Reply(200, {"Content-Type": "application/xml"}, text.encode())
            case "POST", True if "uploadId" in query:
                return self.complete(name, key, query["uploadId"], body, condition)
            case "DELETE", True if "uploadId" in query:
                return Reply(204) if self.uploads.end(query["uploadId"]) else error(404, _LOST_UPLOAD)
            case "DELETE", True if not query:
                status, _, content = self.bucket.ask("DELETE", object_path(name, key), {})
                return Reply(204) if status < 300 else error(status, message=content.decode(errors="replace")[:200])
        return error(501, message=f"{self.command} {self.path}")

    def complete(self, name: str, key: str, upload: str, body: bytes, condition: str | None) -> Reply:
        numbers = [int(element.text or "") for element in ElementTree.fromstring(body).iter() if is_number(element)]
        content = self.uploads.content(upload, numbers)
        if content is None:
            return error(404, _LOST_UPLOAD)
        reply = put(self.bucket, name, key, content, condition)
        if reply.status != 200:
            return reply
        self.uploads.end(upload)
        etag = escape(reply.headers["ETag"])
        text = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        return Reply(200, {**reply.headers, "Content-Type": "application/xml"}, text.encode())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer


def is_number(element: ElementTree.Element) -> bool:
    return element.tag.rpartition("}")[2] == "PartNumber"


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


def main() -> None:
    port, upstream, *key = sys.argv[1:]
    Handler.upstream = int(upstream)
    Handler.uploads = Uploads()
    Handler.signatures = Signatures(Path(key[0]) if key else None)
    Server(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
