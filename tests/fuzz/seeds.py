"""The small valid files that are damaged: of each format that is read, its variants."""

import gzip
import io
import json
import random
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

Spans = tuple[tuple[int, int], ...]

IMAGES = ("jpeg", "png", "gif", "bmp", "webp", "tiff")
TABLES = ("csv", "jsonl", "parquet", "tfrecord")
FORMATS = (*IMAGES, *TABLES)


@dataclass(frozen=True)
class Seed:
    """A valid file.

    Attributes:
      format: One of FORMATS.
      name: Its variant, for messages.
      content: Its bytes, before compression.
      suffix: How the file's name ends.
      headers: (begin, end) of what is structure: headers, directories, lengths.
      rows: (begin, end) of each row that one damaged byte may cost, but no other; none where that does not hold.
      options: What the source of records is told.
    """

    format: str
    name: str
    content: bytes
    suffix: str
    headers: Spans = ()
    rows: Spans = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_gzip(self) -> bool:
        return self.suffix.endswith(".gz")


@lru_cache
def seeds(format_name: str) -> list[Seed]:
    """All variants of a format."""
    made = {
        "jpeg": _jpeg, "png": _png, "gif": _gif, "bmp": _bmp, "webp": _webp, "tiff": _tiff,
        "csv": _csv, "jsonl": _json_lines, "parquet": _parquet, "tfrecord": _tfrecord,
    }  # fmt: skip
    return list(made[format_name]())


# Images.


def _pixels(mode: str, width: int = 33, height: int = 21) -> Image.Image:
    """A picture with edges, gradients and noise, so that every coder has something to do."""
    grid = np.random.default_rng(7)
    noise = grid.integers(0, 40, (height, width, 3))
    ramp = np.add.outer(np.arange(height) * 5, np.arange(width) * 4)[:, :, np.newaxis] + [0, 40, 80]
    pixels = ((ramp + noise) % 256).astype(np.uint8)
    pixels[5:12, 8:20] = (250, 10, 90)
    if mode == "I;16":
        return Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257 + 3)
    if mode in ("LA", "RGBA"):
        image = Image.fromarray(pixels).convert(mode)
        image.putalpha(Image.fromarray(pixels[:, :, 1]))
        return image
    return Image.fromarray(pixels).convert(mode)


def _encoded(kind: str, image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _image_seeds(
    kind: str,
    suffix: str,
    header: Callable[[bytes], Spans],
    variants: Iterable[tuple[str, Image.Image, dict[str, Any]]],
) -> Iterable[Seed]:
    for name, image, options in variants:
        content = _encoded(options.pop("kind", kind), image, **options)
        yield Seed(kind.lower(), name, content, suffix, header(content))


def _jpeg() -> Iterable[Seed]:
    exif = Image.Exif()
    exif[0x0112] = 6

    def header(content: bytes) -> Spans:
        return ((0, content.index(b"\xff\xda") + 14),)

    return _image_seeds(
        "JPEG",
        ".jpg",
        header,
        [
            ("rgb", _pixels("RGB"), {}),
            ("grey", _pixels("L"), {}),
            ("cmyk", _pixels("CMYK"), {}),
            ("progressive", _pixels("RGB"), {"progressive": True}),
            ("444-optimised", _pixels("RGB"), {"subsampling": 0, "optimize": True, "quality": 95}),
            ("restarts", _pixels("RGB", 64, 48), {"restart_marker_blocks": 2}),
            ("exif-icc", _pixels("RGB"), {"exif": exif, "icc_profile": bytes(range(200)), "comment": b"a comment"}),
            ("mpo", _pixels("RGB"), {"kind": "MPO", "save_all": True, "append_images": [_pixels("RGB", 16, 12)]}),
        ],
    )


def _png() -> Iterable[Seed]:
    def header(content: bytes) -> Spans:
        spans, at = [(0, 33)], 33
        while at + 12 <= len(content):
            spans.append((at, at + 8))
            at += 12 + struct.unpack_from(">I", content, at)[0]
        return tuple(spans)

    transparent = {"transparency": 3}
    frames = {"save_all": True, "append_images": [_pixels("L", 20, 12)], "duration": 40}
    return _image_seeds(
        "PNG",
        ".png",
        header,
        [
            *[(mode.lower(), _pixels(mode), {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
            ("palette-transparent", _pixels("P"), transparent),
            ("palette-2-bit", _pixels("P").quantize(4), {"bits": 2}),
            ("animated", _pixels("L", 20, 12), frames),
        ],
    )


def _gif() -> Iterable[Seed]:
    def header(content: bytes) -> Spans:
        return ((0, 13), (content.rindex(b","), content.rindex(b",") + 11))

    second = [_pixels("P").rotate(180)]
    return _image_seeds(
        "GIF",
        ".gif",
        header,
        [
            ("palette", _pixels("P"), {}),
            ("interlaced", _pixels("L"), {"interlace": 1}),
            ("transparent", _pixels("P"), {"transparency": 5}),
            ("animated", _pixels("P"), {"save_all": True, "append_images": second, "loop": 0, "disposal": 2}),
        ],
    )


def _bmp() -> Iterable[Seed]:
    def header(content: bytes) -> Spans:
        return ((0, 54),)

    modes = ("1", "L", "P", "RGB", "RGBA")
    yield from _image_seeds("BMP", ".bmp", header, [(mode.lower(), _pixels(mode), {}) for mode in modes])
    width, height = 33, 21
    runs = b"".join(bytes([20, row, 10, 3, 0, 3, 7, 8, 9, 0]) + b"\0\0" for row in range(height)) + b"\0\1"
    palette = bytes(value for index in range(256) for value in (index, 255 - index, 128, 0))
    begin = 54 + len(palette)
    yield Seed(
        "bmp",
        "run-length",
        b"BM"
        + struct.pack("<IHHI", begin + len(runs), 0, 0, begin)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
        + palette
        + runs,
        ".bmp",
        ((0, 54),),
    )


def _webp() -> Iterable[Seed]:
    def header(content: bytes) -> Spans:
        return ((0, 40),)

    frames = {"save_all": True, "append_images": [_pixels("RGB").rotate(180)], "duration": 50}
    return _image_seeds(
        "WEBP",
        ".webp",
        header,
        [
            ("lossy", _pixels("RGB"), {}),
            ("lossless", _pixels("RGB"), {"lossless": True}),
            ("alpha", _pixels("RGBA"), {}),
            ("lossless-alpha", _pixels("RGBA"), {"lossless": True}),
            ("animated", _pixels("RGB"), frames),
        ],
    )


def _tiff() -> Iterable[Seed]:
    def header(content: bytes) -> Spans:
        order = "<" if content[:2] == b"II" else ">"
        (begin,) = struct.unpack_from(order + "I", content, 4)
        (count,) = struct.unpack_from(order + "H", content, begin)
        return ((0, 8), (begin, min(len(content), begin + 6 + 12 * count)))

    codecs = [("raw", ("1", "L", "RGB", "I;16", "P", "CMYK", "RGBA"))]
    codecs += [(codec, ("L", "RGB", "I;16", "P")) for codec in ("tiff_lzw", "tiff_adobe_deflate", "packbits")]
    codecs += [("jpeg", ("L", "RGB"))]
    codecs += [(codec, ("1",)) for codec in ("group3", "group4", "tiff_ccitt")]
    variants = [
        (f"{codec}-{mode}".lower(), _pixels(mode), {"compression": None if codec == "raw" else codec})
        for codec, modes in codecs
        for mode in modes
    ]
    ccitt = _pixels("1", 128, 96)
    variants += [
        ("group4-large", ccitt, {"compression": "group4"}),
        ("group3-large", ccitt, {"compression": "group3"}),
        ("horizontal-differencing", _pixels("RGB"), {"compression": "tiff_lzw", "tiffinfo": {317: 2}}),
        ("strips", _pixels("RGB", 64, 64), {"compression": "tiff_adobe_deflate", "tiffinfo": {278: 8}}),
        ("pages", _pixels("L"), {"compression": None, "save_all": True, "append_images": [_pixels("L")]}),
    ]
    return _image_seeds("TIFF", ".tif", header, variants)


# Tables.

_WORDS = ("apple", "b\u00e9ta", "gamma ray", "\u03b4", "e", "NA", "0123", "-7.5")
_ROWS = 24
_DECLARED = {"id": "int64", "x": "float64", "word": "string"}


def _values(row: int) -> tuple[int, float, str]:
    return row * 37 - 100, row / 8 - 1, f"w{row} {_WORDS[row % 4]}"


def _lines(lines: Iterable[bytes], header: bytes = b"", end: bytes = b"\n") -> tuple[bytes, Spans]:
    """The content, and the span of each line, its end included."""
    content, spans = header, []
    for line in lines:
        spans.append((len(content), len(content) + len(line) + len(end)))
        content += line + end
    return content, tuple(spans)


def _csv() -> Iterable[Seed]:
    plain = ["{},{},{}".format(*_values(row)).encode() for row in range(_ROWS)]
    mixed = [f"{row},{_WORDS[row % 8]},{row / 3}".encode() for row in range(_ROWS)]
    quoted = [b'%d,"a, ""b""\n%d",%s' % (row, row, b'"x y"' if row % 3 else b"") for row in range(_ROWS)]
    latin = [f"{row},caf\u00e9 {row},\u00fc".encode("latin-1") for row in range(_ROWS)]
    declared = {"columns": _DECLARED}
    header, other = b"id,x,word\n", b"n,word,real\n"
    for name, lines, suffix, begin, end, options in (
        ("declared", plain, ".csv", header, b"\n", declared),
        ("declared-gzip", plain, ".csv.gz", header, b"\n", declared),
        ("declared-crlf", plain, ".csv", b"id,x,word\r\n", b"\r\n", declared),
        ("declared-bom", plain, ".csv", b"\xef\xbb\xbf" + header, b"\n", declared),
        ("declared-kept", plain, ".csv", header, b"\n", declared | {"strip": False, "nonfinite": "keep"}),
        ("declared-no-header", plain, ".csv", b"", b"\n", declared | {"names": ["id", "x", "word"], "quote": None}),
    ):
        content, spans = _lines(lines, begin, end)
        yield Seed("csv", name, content, suffix, ((0, len(begin)),), spans, options)
    for name, lines, suffix, begin, end, options in (
        ("inferred", mixed, ".csv", other, b"\n", {}),
        ("inferred-cr", mixed, ".csv", b"n,word,real\r", b"\r", {"nonfinite": "quarantine"}),
        ("quoted", quoted, ".csv", other, b"\n", {}),
        ("quoted-gzip", quoted, ".csv.gz", other, b"\n", {}),
        ("quoted-kept", quoted, ".csv", other, b"\r\n", {"strip": False, "missing": []}),
        ("latin-1", latin, ".csv", other, b"\n", {"encoding": "latin-1"}),
        ("cp1252-as-utf-8", latin, ".csv", other, b"\n", {}),
    ):
        yield Seed("csv", name, _lines(lines, begin, end)[0], suffix, ((0, len(begin)),), options=options)
    tabs = _lines([line.replace(b",", b"\t") for line in mixed], b"n\tword\treal\n")[0]
    yield Seed("csv", "tabs", tabs, ".tsv", ((0, 12),), options={"delimiter": "\t"})
    utf16 = _lines(mixed, other)[0].decode().encode("utf-16")
    yield Seed("csv", "utf-16", utf16, ".csv", ((0, 24),), options={"encoding": "utf-16"})


def _json_lines() -> Iterable[Seed]:
    plain, mixed = [], []
    for row in range(_ROWS):
        number, real, word = _values(row)
        plain.append(json.dumps({"id": number, "x": real, "word": word, "tags": [row, 7]}, ensure_ascii=False).encode())
        value = {"n": row, "b": row % 2 == 0, "s": _WORDS[row % 8], "l": [1.5] * (row % 3)}
        mixed.append(json.dumps(value if row % 5 else {"n": row, "e": None}, ensure_ascii=row % 2 == 0).encode())
    declared = {"columns": {**_DECLARED, "tags": "list<int64>"}}
    for name, suffix, begin, end in (
        ("declared", ".jsonl", b"", b"\n"),
        ("declared-gzip", ".jsonl.gz", b"", b"\n"),
        ("declared-crlf", ".jsonl", b"", b"\r\n"),
        ("declared-bom", ".jsonl", b"\xef\xbb\xbf", b"\n"),
    ):
        content, spans = _lines(plain, begin, end)
        yield Seed("jsonl", name, content, suffix, ((0, len(begin) + 9),), spans, declared)
    for name, suffix, options in (
        ("inferred", ".jsonl", {}),
        ("inferred-gzip", ".jsonl.gz", {}),
        ("inferred-quarantine", ".jsonl", {"nonfinite": "quarantine"}),
        ("some-columns", ".jsonl", {"columns": {"n": "int64", "s": "binary"}}),
    ):
        yield Seed("jsonl", name, _lines(mixed)[0], suffix, ((0, 9),), options=options)


def _parquet() -> Iterable[Seed]:
    count = 200
    table = pa.table(
        {
            "i": pa.array(range(count), pa.int64()),
            "f": pa.array([None if row % 7 == 0 else row / 4 for row in range(count)], pa.float64()),
            "s": pa.array([_WORDS[row % 8] for row in range(count)]),
            "b": pa.array([row % 3 == 0 for row in range(count)]),
            "l": pa.array([list(range(row % 4)) for row in range(count)], pa.list_(pa.int32())),
            "d": pa.array([f"v{row % 5}" for row in range(count)]).dictionary_encode(),
            "t": pa.array([row * 10**9 for row in range(count)], pa.timestamp("us")),
        }
    )
    delta = {"i": "DELTA_BINARY_PACKED", "s": "DELTA_BYTE_ARRAY", "f": "BYTE_STREAM_SPLIT"}
    for name, options in (
        ("snappy", {}),
        ("three-columns", {"store_schema": False}),
        ("checksums", {"write_page_checksum": True}),
        ("plain", {"compression": "none", "use_dictionary": False}),
        ("zstd-v2", {"compression": "zstd", "data_page_version": "2.0"}),
        ("gzip-delta", {"compression": "gzip", "use_dictionary": False, "column_encoding": delta}),
        ("brotli-small-pages", {"compression": "brotli", "data_page_size": 64, "write_page_index": True}),
        ("lz4-no-statistics", {"compression": "lz4", "write_statistics": False, "store_schema": False}),
    ):
        out = io.BytesIO()
        written = table.select(["i", "s", "l"]) if name == "three-columns" else table
        pa.parquet.write_table(written, out, row_group_size=64, **options)
        content = out.getvalue()
        (footer,) = struct.unpack_from("<I", content, len(content) - 8)
        begin = len(content) - 8 - footer  # the footer begins with the columns
        headers = ((0, 60), (begin, len(content)), (begin, begin + 200), (len(content) - 8, len(content)))
        yield Seed("parquet", name, content, ".parquet", headers)


def _tfrecord() -> Iterable[Seed]:
    examples = []
    for row in range(_ROWS):
        number, real, word = _values(row)
        examples.append(example({"id": [abs(number) + 300], "x": [real], "word": [word.encode()], "l": [row, row + 1]}))
    ragged = [example({"n": [row] * (row % 3), "b": [b"\xff\0"] * (row % 2), "f": [0.5] * 3}) for row in range(_ROWS)]
    for name, records, suffix, options in (
        ("scalars", examples, ".tfrecord", {}),
        ("scalars-gzip", examples, ".tfrecord.gz", {}),
        ("declared", examples, ".tfrecord", {"columns": {"id": "int64", "word": "string", "l": "list<int64>"}}),
        ("ragged", ragged, ".tfrecord", {}),
        ("ragged-quarantine", ragged, ".tfrecord", {"nonfinite": "quarantine"}),
    ):
        content, spans = _lines([frame(record) for record in records], end=b"")
        headers = tuple((begin, begin + 12) for begin, _ in spans)
        yield Seed("tfrecord", name, content, suffix, headers, spans, options)


def frame(record: bytes, length: int | None = None) -> bytes:
    """A TFRecord frame, whatever its length field is to say."""
    header = struct.pack("<Q", len(record) if length is None else length)
    return b"".join((header, _masked_crc(header), record, _masked_crc(record)))


def _masked_crc(content: bytes) -> bytes:
    crc = google_crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def example(features: Mapping[str, list[Any]]) -> bytes:
    """A tf.train.Example in Protocol Buffers' wire format."""
    entries = []
    for name, values in features.items():
        if values and isinstance(values[0], bytes):
            kind, content = 1, b"".join(_field(1, value) for value in values)
        elif values and isinstance(values[0], float):
            kind, content = 2, _field(1, np.array(values, "<f4").tobytes())
        else:
            kind, content = 3, _field(1, b"".join(map(_varint, values)))
        entries.append(_field(1, _field(1, name.encode()) + _field(2, _field(kind, content))))
    return _field(1, b"".join(entries))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def compressed(content: bytes) -> bytes:
    """The bytes as gzip writes them, always the same."""
    return gzip.compress(content, 6, mtime=0)


def random_of(format_name: str, number: int) -> random.Random:
    """What a case draws from: the format and the number say all of it."""
    return random.Random(f"{format_name}:{number}")
