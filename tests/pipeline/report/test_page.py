"""The page as a browser parses it: what is in it, and what of a dataset's content could get out of hand."""

import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers import Cli, Committed, Made

from penstock.pipeline import Csv, by_hash, open_dataset
from penstock.pipeline.report.page import render, write_report

HOSTILE = "<script>alert(1)</script>"
VOID = {"br", "img", "input", "link", "meta"}


class Page(HTMLParser):
    """Collects elements, and checks that each is closed where it should be."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def images(committed: Committed) -> str:
    return render(open_dataset(committed.path))


@pytest.fixture(scope="module")
def table(make: Callable[..., Made]) -> Made:
    rows = [f"{number % 7},{'' if number % 9 == 0 else number / 4},{HOSTILE}{number % 3}" for number in range(300)]
    rows[10] = "1,oops,x"
    return make(
        {"a.csv": "\n".join([f"n,x,{HOSTILE}", *rows, *rows[:4]]) + "\n"},
        source=Csv("*.csv", columns={"n": "auto", "x": "float64", HOSTILE: "auto"}),
        splits=by_hash({"train": 0.5, "test": 0.5}),
        max_quarantined="10%",
    )


@pytest.fixture(scope="module")
def rows(table: Made) -> str:
    return render(open_dataset(table.path))


@pytest.mark.parametrize("kind", ["images", "rows"])
def test_nothing_is_loaded_and_nothing_runs(kind: str, request: pytest.FixtureRequest):
    content = request.getfixturevalue(kind)
    page = Page(content)
    assert {"script", "link", "iframe", "object", "embed", "base", "form"}.isdisjoint(tag for tag, _ in page.elements)
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "data", "action"):
            assert re.match(r"data:image/(jpeg|png);|#", attributes.get(name) or "#")
    assert "url(" not in content
    assert "@import" not in content
    policy = next(each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("kind", ["images", "rows"])
def test_the_page_can_be_read_by_a_screen_reader(kind: str, request: pytest.FixtureRequest):
    page = Page(request.getfixturevalue(kind))
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert max(ids.values()) == 1
    assert all(each["href"] in {f"#{name}" for name in ids} for each in page.all("a") if each.get("href"))
    assert all(each.get("alt") for each in page.all("img"))
    assert all(each.get("role") == "img" and each.get("aria-label") for each in page.all("svg"))
    assert len(page.all("caption")) == len(page.all("table")) > 0
    assert [len(page.all(tag)) for tag in ("h1", "main", "nav", "header", "footer")] == [1, 1, 1, 1, 1]
    assert page.all("html")[0]["lang"] == "en"


def test_examples_have_pictures_with_masks_over_them_and_outputs_beside(images: str):
    page = Page(images)
    alts = [each["alt"] or "" for each in page.all("img")]
    assert any(alt.startswith("image of images/cat_") for alt in alts)
    assert any(alt.startswith("output image of images/dog_") for alt in alts)
    assert "mask laid over it" in alts
    assert {"Overview", "Examples", "Labels", "Images", "Quarantine", "Duplicates", "Changes", "Pipeline"} <= set(
        page.words
    )
    assert "from image" in page.text  # where an output comes from


def test_columns_have_exact_counts_and_sampled_charts(rows: str):
    page = Page(rows)
    labels = [each["aria-label"] or "" for each in page.all("svg")]
    assert any(re.match(r"Histogram of n: [0-9]+ sampled values from 0 to 6", label) for label in labels)
    assert "histogram of x" in " ".join(labels).lower()


def test_equal_examples_stand_side_by_side(table: Made, rows: str):
    listed = table.manifest.duplicates.groups
    assert listed > 0
    text = Page(rows).text
    assert f"{listed:,} groups of equal examples" in text
    assert len(re.findall("[0-9] equal examples ", text)) == min(listed, 16)


def test_what_is_in_the_data_stays_text(table: Made, rows: str):
    assert HOSTILE not in rows
    assert HOSTILE in Page(rows).text
    assert f"{HOSTILE}1" in Page(rows).text
    assert table.path.name in Page(rows).text


def test_the_quarantine_shows_the_row_if_it_can_still_be_read(table: Made, rows: str):
    assert "1,oops,x" in Page(rows).text
    without = Page(render(open_dataset(table.path), source=False))
    assert "1,oops,x" not in without.text
    assert "not shown" in without.text


def test_a_damaged_shard_is_no_failure(damaged: Committed):
    shard = damaged.path / damaged.manifest.splits["train"].shards[0].path
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(bytes(content))
    assert "could not be read" in Page(render(open_dataset(damaged.path))).text


def test_the_command_writes_the_page(committed: Committed, cli: Cli, tmp_path: Path):
    output = tmp_path / "page.html"
    ended = cli("report", committed.path, "--output", output)
    assert ended.exit_code == 0, ended.output
    assert str(output) in ended.output
    assert len(Page(output.read_text()).all("img")) > 10
    assert cli("report", committed.path, "--output", output, "--generation", "abc").exit_code == 2


def test_the_page_goes_to_the_working_folder_by_the_dataset_s_name(
    committed: Committed, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert cli("report", committed.path).exit_code == 0
    assert (tmp_path / "dataset.html").stat().st_size > 10_000
    assert cli("report", committed.path, "--output", "").exit_code == 2


def test_the_page_replaces_an_older_one(committed: Committed, tmp_path: Path):
    output = tmp_path / "page.html"
    output.write_text("older")
    assert write_report(str(committed.path), str(output)) == output.stat().st_size
