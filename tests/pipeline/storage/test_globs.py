import os
import unicodedata
from pathlib import Path

import pytest

from penstock.pipeline.storage import globs

PATHS = [
    "1.jpg",
    "a/1.jpg",
    "a/2.png",
    "a/b/3.jpg",
    "a/b/c/4.jpg",
    "a/[x].jpg",
    "a+b/(1).jpg",
    "ab/1.jpg",
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for path in PATHS:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["1.jpg"]),
        ("a/*.jpg", ["a/1.jpg", "a/[x].jpg"]),
        ("a/*", ["a/1.jpg", "a/2.png", "a/[x].jpg"]),
        ("**/*.jpg", [path for path in PATHS if path.endswith(".jpg")]),
        ("a/**/*.jpg", ["a/1.jpg", "a/[x].jpg", "a/b/3.jpg", "a/b/c/4.jpg"]),
        ("**/b/*.jpg", ["a/b/3.jpg"]),
        ("**/c/**/*.jpg", ["a/b/c/4.jpg"]),
        ("**", PATHS),
        ("a/**", [path for path in PATHS if path.startswith("a/")]),
        ("a/?.jpg", ["a/1.jpg"]),
        ("a/[12].*", ["a/1.jpg", "a/2.png"]),
        ("a/[!1].png", ["a/2.png"]),
        ("a/[[]x].jpg", ["a/[x].jpg"]),
        ("a+b/(1).jpg", ["a+b/(1).jpg"]),
        ("a/1.jpg", ["a/1.jpg"]),
        ("a", []),
        ("a*/1.jpg", ["a/1.jpg", "ab/1.jpg"]),
        ("A/1.jpg", []),
        ("a/1.jp", []),
        ("b/*.jpg", []),
        ("a[!x]1.jpg", []),
        ("a**4.jpg", ["a/b/c/4.jpg"]),
        ("**/a/**", [path for path in PATHS if path.startswith("a/")]),
        ("*/b/c/*", ["a/b/c/4.jpg"]),
        ("a/b/**/c/**/*.jpg", ["a/b/c/4.jpg"]),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_patterns(tree: Path, pattern: str, expected: list[str], slash: str):
    found = globs.glob(f"{tree}{slash}", pattern).files
    assert list(found) == sorted(expected)
    assert all(info.size == len(key) and Path(info.uri).samefile(tree / key) for key, info in found.items())


def test_a_dot_in_a_pattern_is_a_dot():
    assert not globs.compile_glob("*.jpg").fullmatch("1xjpg")
    assert globs.compile_glob("**/x").fullmatch("x")
    assert not globs.compile_glob("**/x").fullmatch("yx")


def test_a_folder_is_listed_once_as_itself_whatever_links_lead_to_it(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.jpg").touch()
    (tmp_path / "a" / "to_b").symlink_to("../b")
    (tmp_path / "b" / "to_a").symlink_to("../a")
    (tmp_path / "a" / "up").symlink_to("..")
    matches = globs.glob(str(tmp_path), "**/*.jpg")
    assert list(matches.files) == ["b/1.jpg"]
    (warning,) = matches.warnings
    assert warning.startswith("3 links lead to folders that are listed already")
    assert "a/to_b, a/up, b/to_a" in warning


def test_a_link_is_followed_where_the_folder_under_its_own_name_does_not_match(tmp_path: Path):
    (tmp_path / "pool" / "x").mkdir(parents=True)
    (tmp_path / "pool" / "x" / "1.jpg").touch()
    (tmp_path / "classes").mkdir()
    (tmp_path / "classes" / "cat").symlink_to("../pool/x")
    assert list(globs.glob(str(tmp_path), "classes/*/*.jpg").files) == ["classes/cat/1.jpg"]
    assert list(globs.glob(str(tmp_path), "**/cat/*.jpg").files) == ["classes/cat/1.jpg"]
    assert list(globs.glob(str(tmp_path), "*/*/*.jpg").files) == ["pool/x/1.jpg"]


def test_folders_that_all_link_to_each_other_are_each_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in range(10):
        (tmp_path / f"d{name}").mkdir()
        (tmp_path / f"d{name}" / "1.jpg").touch()
        for other in range(10):
            (tmp_path / f"d{name}" / f"l{other}").symlink_to(f"../d{other}")
    scanned = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(path) or scandir(path))
    assert len(globs.glob(str(tmp_path), "**/*.jpg").files) == 10
    assert len(scanned) == 11
    del scanned[:]
    assert globs.glob(str(tmp_path), "*.jpg").files == {}
    assert scanned == [str(tmp_path)]


def test_what_is_no_file_is_told(tmp_path: Path):
    (tmp_path / "1.jpg").touch()
    (tmp_path / "lost.jpg").symlink_to("/annex/gone")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "notes.txt").symlink_to("nowhere")
    matches = globs.glob(str(tmp_path), "*.jpg")
    assert list(matches.files) == ["1.jpg"]
    assert matches.unreadable == {
        "lost.jpg": "a link to /annex/gone, where nothing is",
        "pipe.jpg": "a named pipe",
        "self.jpg": "a link that leads back to itself",
    }
    assert matches.warnings == []


def test_a_link_that_should_be_a_folder_is_told(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").touch()
    (tmp_path / "dog").symlink_to("/mnt/gone")
    matches = globs.glob(str(tmp_path), "*/*.jpg")
    assert list(matches.files) == ["cat/1.jpg"]
    (warning,) = matches.warnings
    assert "dog (a link to /mnt/gone, where nothing is)" in warning


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("other", ["NFC", "NFD"])
def test_names_match_whatever_their_unicode_form(tmp_path: Path, form: str, other: str):
    folder = tmp_path / unicodedata.normalize(form, "Bücher")
    folder.mkdir()
    (folder / unicodedata.normalize(form, "é.jpg")).touch()
    assert len(globs.glob(str(tmp_path), unicodedata.normalize(other, "Bücher/?.jpg")).files) == 1


def test_a_name_matches_whatever_its_unicode_form():
    composed, decomposed = (unicodedata.normalize(form, "é/1.jpg") for form in ("NFC", "NFD"))
    assert globs.matches_glob(composed.replace("1", "*"), decomposed)
    assert globs.matches_glob(decomposed.replace("1", "*"), composed)
    assert not globs.matches_glob("e/*", composed)


def test_an_escaped_path_matches_itself_alone():
    path = "masks[1]/a*?/[x"
    assert globs.compile_glob(globs.escape_glob(path)).fullmatch(path)
    assert not globs.compile_glob(globs.escape_glob("a*")).fullmatch("ab")
