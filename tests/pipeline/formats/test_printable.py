import pytest

from penstock.pipeline.formats.printable import printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ü 日本\n\t", "plain ü 日本\n\t"),
        ("\x1b[2Jcleared", "\\x1b[2Jcleared"),
        ("a\rb\x07\x9b", "a\\rb\\x07\\x9b"),
        ("caf\udce9.csv", "caf\\udce9.csv"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
    ],
)
def test_what_could_take_over_a_terminal_is_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert printable({text: [text, (text, 3, None)]}) == {expected: [expected, [expected, 3, None]]}
    expected.encode()
