"""What is no markup is escaped."""

from penstock.pipeline.report.markup import Html, element, join, table


def test_strings_are_escaped_and_markup_stays():
    assert join("<b>", Html("<i>"), None, ["&", 1]) == "&lt;b&gt;<i>&amp;1"


def test_attributes_are_escaped_and_may_be_left_out():
    assert element("img", alt='"><script>', hidden=True, id=None) == '<img alt="&quot;&gt;&lt;script&gt;" hidden>'


def test_characters_that_hide_or_turn_text_are_shown():
    assert join("a\u202eb\x00") == "a\\u202eb\\x00"


def test_a_table_is_named_by_its_caption():
    content = table("a < b", ("x",), [("1",)])
    assert 'aria-label="a &lt; b"' in content
    assert '<th scope="row">1</th>' in content
