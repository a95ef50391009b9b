import io
import random

import pytest

from penstock.pipeline.errors import RequestError
from penstock.pipeline.sources import text_encoding
from penstock.pipeline.sources.text_encoding import Utf8Stream, is_sliceable, is_utf8, to_utf8


class File(io.BytesIO):
    def position(self):
        return self.tell()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "shift_jis", "gb18030", "utf-7"])
@pytest.mark.parametrize("block", [1, 3, 1000])
def test_a_stream_gives_utf8_whatever_is_asked_for(monkeypatch, encoding, block):
    monkeypatch.setattr(text_encoding, "_BLOCK", block)
    pick = random.Random(block)
    text = "".join(pick.choices(["a", "日本", "\r\n", "\n", "\r", ",", "ア"], k=300))
    stream = Utf8Stream(File(text.encode(encoding)), encoding, "t.csv")
    parts = []
    while part := stream.read(pick.randint(1, 50)):
        parts.append(part)
    assert b"".join(parts).decode() == text
    assert stream.position() == len(text.encode(encoding))


@pytest.mark.parametrize("block", [1, 3, 4, 1000])
def test_bytes_that_do_not_fit_are_named_by_line_and_byte(monkeypatch, block):
    monkeypatch.setattr(text_encoding, "_BLOCK", block)
    content = "a,b\r\né\r\n\nx".encode("utf-16-be") + b"\xd8\x00\x00,\x00x"
    stream = Utf8Stream(File(content), "utf-16-be", "t.csv")
    with pytest.raises(RequestError, match=r"t\.csv, line 4, byte 20: expected text in utf-16-be, found"):
        any(not stream.read(block) for _ in range(100))


def test_utf16_without_its_mark_is_refused():
    with pytest.raises(RequestError, match=r"t\.csv, line 1, byte 4: expected text in utf-16, found"):
        Utf8Stream(File(b"a\0b\0" + b"\0\xd8" * 2), "utf-16", "t.csv").read(100)


def test_other_bytes_that_do_not_fit_stay_as_they_are():
    assert (
        Utf8Stream(File("日".encode("shift_jis") + b"\xff,"), "shift_jis", "t.csv").read(100)
        == "日".encode() + b"\xff,"
    )
    assert to_utf8(b"\xe9\x81", "cp1252") == "é".encode() + b"\x81"


def test_what_can_be_sliced():
    assert [is_sliceable(name) for name in ("utf-8", "latin-1", "cp1252", "utf-16", "shift_jis", "cp037")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    assert [is_utf8(name) for name in ("utf-8-sig", "ascii", "latin-1")] == [True, True, False]
