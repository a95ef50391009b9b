"""The damage: seeded changes of a valid file. The format and the number of a case say all of it."""

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from .seeds import Seed, compressed, example, frame, random_of, seeds

_LENGTHS = (
    0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 1 << 16, 1 << 20, (1 << 24) - 1, 1 << 24, (1 << 31) - 1,
    1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
_BOMB = 48 << 20  # bytes that a small compressed file holds
_QUOTE, _ENDS = ord('"'), b"\r\n"


@dataclass(frozen=True)
class Damage:
    """What one changed byte may cost, in a file of rows.

    Attributes:
      first: The first row that may be lost or read otherwise.
      stop: One after the last.
      renumbers: Whether a row's end came or went, so that the rows behind have other numbers.
      may_refuse: Whether the file may be refused, because its framing was hit.
    """

    first: int
    stop: int
    renumbers: bool
    may_refuse: bool


@dataclass(frozen=True)
class Case:
    """A damaged file.

    Attributes:
      seed: What it was.
      number: Which case of its format.
      content: The file's bytes.
      mutations: What was done, in words.
      damage: What it may cost; None where that is not known.
    """

    seed: Seed
    number: int
    content: bytes
    mutations: tuple[str, ...]
    damage: Damage | None

    @property
    def name(self) -> str:
        return f"{self.seed.format}:{self.number}"


def case(format_name: str, number: int) -> Case:
    """A format's case: each variant in turn, so that any stretch of numbers has all."""
    draw = random_of(format_name, number)
    variants = seeds(format_name)
    seed = variants[number % len(variants)]
    if seed.is_gzip and draw.random() < 0.01:
        content, words = _bomb(draw, seed)
        return Case(seed, number, content, (words,), None)
    if seed.is_gzip and draw.random() < 0.25:
        content, mutations, _ = _mutated(draw, compressed(seed.content), ((0, 10),), _BYTES)
        return Case(seed, number, content, ("of the gzip stream", *mutations), None)
    if seed.rows and draw.random() < 0.5:  # the damage that must not cost another row
        mutation, place = draw.choice([flip_bit, replace_byte]), draw.randrange(len(seed.content))
        changed = bytearray(seed.content)
        words = f"{mutation.__name__} at {place}: {mutation(draw, changed, place)}"
        content, mutations = bytes(changed), [words]
    else:
        kinds = [*_BYTES, *_OF_FORMAT.get(seed.format, [])]
        content, mutations, place = _mutated(draw, seed.content, seed.headers, kinds)
    damage = _damage(seed, content, place) if place is not None else None
    if seed.format == "png" and draw.random() < 0.5:
        content, mutations = _with_checksums(content), [*mutations, "checksums made right"]
    return Case(seed, number, compressed(content) if seed.is_gzip else content, tuple(mutations), damage)


def _damage(seed: Seed, content: bytes, place: int) -> Damage | None:
    """What the one byte that differs may cost; None where quotes or the header make that a matter of meaning."""
    row = next((at for at, (begin, end) in enumerate(seed.rows) if begin <= place < end), None)
    before, after = seed.content[place], content[place]
    if row is None or before == after:
        return None
    if seed.format == "tfrecord":
        return Damage(row, row + 1, False, place < seed.rows[row][0] + 12)
    if seed.format == "csv" and _QUOTE in (before, after):
        return None
    last = row + 2 if before in _ENDS else row + 1
    return Damage(row, last, before in _ENDS or after in _ENDS, False)


Draw = random.Random
Mutation = Callable[[Draw, bytearray, int], str]


def _mutated(
    draw: Draw, content: bytes, headers: tuple[tuple[int, int], ...], mutations: list[Mutation]
) -> tuple[bytes, list[str], int | None]:
    """Content, what was done to it, and the place of the byte that was changed, if one was and nothing else."""
    changed, words, place = bytearray(content), [], None
    count = 1 if draw.random() < 0.7 else draw.randint(2, 4)
    for _ in range(count):
        if not changed:
            break
        begin, end = draw.choice(headers) if headers and draw.random() < 0.5 else (0, len(changed))
        place = draw.randrange(min(begin, len(changed) - 1), min(max(end, begin + 1), len(changed)) or 1)
        mutation = draw.choice(mutations)
        words.append(f"{mutation.__name__} at {place}: {mutation(draw, changed, place)}")
    single = count == 1 and mutation in (flip_bit, replace_byte)
    return bytes(changed), words, place if single else None


def flip_bit(draw: Draw, content: bytearray, place: int) -> str:
    bit = draw.randrange(8)
    content[place] ^= 1 << bit
    return f"bit {bit}"


def replace_byte(draw: Draw, content: bytearray, place: int) -> str:
    content[place] = draw.choice([draw.randrange(256), 0, 255, *b"\r\n,{}[]:\\- \t0"])
    return f"by {content[place]:#04x}"


def truncate(draw: Draw, content: bytearray, place: int) -> str:
    del content[place:]
    return f"{len(content)} bytes are left"


def insert_bytes(draw: Draw, content: bytearray, place: int) -> str:
    some = draw.randbytes(draw.choice([1, 2, 4, 16, 200]))
    content[place:place] = some
    return f"{len(some)} bytes"


def delete_bytes(draw: Draw, content: bytearray, place: int) -> str:
    count = draw.choice([1, 2, 4, 16, 200])
    del content[place : place + count]
    return f"{count} bytes"


def swap_blocks(draw: Draw, content: bytearray, place: int) -> str:
    size = draw.choice([1, 4, 16, 64])
    first, second = sorted((place, draw.randrange(len(content))))
    if first + size <= second and second + size <= len(content):
        content[first : first + size], content[second : second + size] = (
            content[second : second + size],
            content[first : first + size],
        )
    return f"{size} bytes of {first} and {second}"


def duplicate_chunk(draw: Draw, content: bytearray, place: int) -> str:
    size, times = draw.choice([1, 8, 64, 300]), draw.choice([1, 1, 2, 50])
    content[place:place] = bytes(content[place : place + size]) * times
    return f"{size} bytes {times} times"


def fill_block(draw: Draw, content: bytearray, place: int) -> str:
    size, value = draw.choice([2, 8, 64, 300]), draw.choice([0, 255, draw.randrange(256)])
    end = min(len(content), place + size)
    content[place:end] = bytes([value]) * (end - place)
    return f"{size} bytes of {value:#04x}"


def edit_integer(draw: Draw, content: bytearray, place: int) -> str:
    """A length, an offset, a count: whatever stands there as an integer."""
    width, order = draw.choice([1, 2, 4, 4, 8]), draw.choice(["little", "big"])
    old = int.from_bytes(content[place : place + width], order)
    new = draw.choice([*_LENGTHS, old + 1, old - 1, old * 2, old // 2, old ^ (1 << draw.randrange(8 * width))])
    new %= 1 << 8 * width
    content[place : place + width] = new.to_bytes(width, order)
    return f"{width} bytes, {order}-endian: {old} becomes {new}"


_BYTES: list[Mutation] = [
    flip_bit, flip_bit, replace_byte, replace_byte, truncate, insert_bytes, delete_bytes, swap_blocks, duplicate_chunk,
    fill_block, edit_integer, edit_integer,
]  # fmt: skip


# What a format's own decoder may stumble over.

_TEXT = [
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x00", b"\x1a", b"\x85",
    b"\r", b"\n", b"\r\n", b"\n\n", b"\xe2\x80\xa8", b"1e400", b"-1e-400", b"9" * 400, b"9223372036854775808", b"0x1F",
    b"nan", b"Infinity", b"1_000", b"\xd9\xa1", b'"', b'""', b'"""', b"'", b"\\", b"x" * 70000,
]  # fmt: skip


def insert_text(draw: Draw, content: bytearray, place: int) -> str:
    if draw.random() < 0.5:  # where a row begins
        place = content.rfind(b"\n", 0, place) + 1
    token = draw.choice(_TEXT)
    content[place:place] = token
    return f"{token[:20]!r}, {len(token)} bytes, at {place}"


def byte_order_marks(draw: Draw, content: bytearray, place: int) -> str:
    """At the beginning of rows, or as rows."""
    mark = draw.choice([b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
    lines = content.split(b"\n")
    chosen = {draw.randrange(len(lines)) for _ in range(draw.choice([1, 3, len(lines)]))}
    content[:] = b"\n".join(mark + line if at in chosen else line for at, line in enumerate(lines))
    return f"{mark!r} before the lines {sorted(chosen)}"


def hostile_json(draw: Draw, content: bytearray, place: int) -> str:
    """A line that is one object, valid or nearly, of a kind that parsers get wrong."""
    depth = draw.choice([3, 50, 500, 2000, 30000, 100_000])
    name, line = draw.choice(
        [
            (f"objects {depth} deep", b'{"n":1,"a":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"),
            (f"lists {depth} deep", b'{"n":1,"l":' + b"[" * depth + b"]" * depth + b"}"),
            (f"{depth} open brackets", b'{"n":' + b"[" * depth + b"}"),
            (f"{depth} keys", b"{" + b",".join(b'"k%d":%d' % (key, key) for key in range(min(depth, 300))) + b"}"),
            ("a key twice", b'{"n":1,"n":2,"id":1,"id":"x"}'),
            ("half of a surrogate pair", b'{"s":"\\ud800","word":"\\udc00"}'),
            ("an escaped key", b'{"\\u006e":1,"i\\u0064":5}'),
            ("huge numbers", b'{"n":1e999,"id":123456789012345678901234567890,"x":-1e999}'),
            ("a long number", b'{"n":' + b"7" * 5000 + b',"x":0.' + b"3" * 5000 + b"}"),
            ("NaN", b'{"n":NaN,"x":Infinity,"id":-0}'),
            ("two objects", b'{"n":1}{"n":2}'),
            ("an object over lines", b'{"n":1,\n"s":\n"x"}'),
            ("no object", draw.choice([b"[]", b"1", b"null", b'"x"', b"{}x", b"{", b"}", b"{}", b'{"n":1},'])),
        ]
    )
    at = content.rfind(b"\n", 0, place) + 1
    content[at:at] = line + b"\n"
    return f"{name}, as a line at {at}"


def hostile_csv(draw: Draw, content: bytearray, place: int) -> str:
    """A line of a kind that parsers get wrong."""
    name, line = draw.choice(
        [
            ("an open quote", b'5,"open,x'),
            ("text behind a quote", b'5,"a"b,x'),
            ("blanks around quotes", b'5 , "a" ,\t"b"\t'),
            ("quotes over lines", b'5,"a\n\n""\r\nb",1'),
            ("many fields", b"," * draw.choice([3, 100, 20000])),
            ("few fields", b"5"),
            ("blanks", b" \t "),
            ("a long field", b"5," + b"y" * draw.choice([40000, 2 << 20]) + b",1"),
            ("many quotes", b'""' * draw.choice([3, 1001, 20000])),
            ("huge numbers", b"9223372036854775808,1e999,0x7fffffffffffffff"),
            ("not UTF-8, few fields", b"\xff\xfe"),
        ]
    )
    at = content.rfind(b"\n", 0, place) + 1
    content[at:at] = line + b"\n"
    return f"{name}, as a line at {at}"


def reframe(draw: Draw, content: bytearray, place: int) -> str:
    """A record that is damaged, but has the right checksum; or a length that has one, but is wrong."""
    name, framed = draw.choice(
        [
            ("noise", frame(draw.randbytes(draw.choice([1, 20, 300])))),
            ("nothing", frame(b"")),
            ("a wrong length", frame(b"abc", draw.choice(_LENGTHS) % (1 << 64))),
            ("a nested group", frame(b"\x0b" * 5000)),
            ("an overlong varint", frame(b"\x0a" + b"\xff" * 9 + b"\x01")),
            ("a list where a scalar was", frame(example({"id": [1, 2], "x": [1.0, 2.0], "n": [3] * 9}))),
            ("another type", frame(example({"id": [b"x"], "x": [4], "n": [b"y"], "word": [0.5]}))),
            ("no UTF-8", frame(example({"word": [b"\xff"], "\u03b4": [1]}))),
            ("NaN", frame(example({"x": [float("nan")], "f": [float("inf")], "id": [5]}))),
            ("a damaged example", frame(_damaged_example(draw))),
        ]
    )
    at = 0
    while at + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        if at + 16 + length > place:
            break
        at += 16 + length
    content[at:at] = framed
    return f"{name}, as a record at {min(at, len(content))}"


def _damaged_example(draw: Draw) -> bytes:
    record = bytearray(example({"id": [400], "x": [0.5], "word": [b"w"], "l": [1, 2], "n": [1], "b": [b"\xff"]}))
    for _ in range(draw.randint(1, 4)):
        record[draw.randrange(len(record))] = draw.randrange(256)
    return bytes(record)


@lru_cache
def _swelling() -> bytes:
    return zlib.compress(bytes(40 << 20), 9)


def png_bomb(draw: Draw, content: bytearray, place: int) -> str:
    """A compressed chunk of text or profile that swells."""
    kind = draw.choice([b"zTXt", b"iCCP", b"iTXt"])
    data = b"name\0" + (b"\1\0\0\0" if kind == b"iTXt" else b"\0") + _swelling()
    content[33:33] = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return kind.decode()


_OF_FORMAT: dict[str, list[Mutation]] = {
    "csv": [insert_text, insert_text, byte_order_marks, hostile_csv, hostile_csv],
    "jsonl": [insert_text, byte_order_marks, hostile_json, hostile_json, hostile_json],
    "tfrecord": [reframe, reframe, reframe],
    "png": [png_bomb],
}


def _with_checksums(content: bytes) -> bytes:
    """A PNG in which every chunk that can be found has the right checksum."""
    fixed, at = bytearray(content), 8
    while at + 12 <= len(fixed):
        (length,) = struct.unpack_from(">I", fixed, at)
        if at + 12 + length > len(fixed):
            break
        struct.pack_into(">I", fixed, at + 8 + length, zlib.crc32(fixed[at + 4 : at + 8 + length]))
        at += 12 + length
    return bytes(fixed)


def _bomb(draw: Draw, seed: Seed) -> tuple[bytes, str]:
    """A small file that holds a hundred megabytes of one byte: in a row of its own, or in rows, or in a header."""
    byte, begin = draw.choice([b"\n", b"x", b" ", b"\0"]), draw.choice([0, len(seed.content)])
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = byte * (1 << 20)
    parts = [packer.compress(seed.content[:begin]), *(packer.compress(block) for _ in range(_BOMB >> 20))]
    return b"".join([*parts, packer.flush()]), f"{_BOMB} bytes of {byte!r} after {begin}"
