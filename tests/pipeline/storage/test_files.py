import os
from pathlib import Path

import pytest

from penstock.pipeline.storage import files

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
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_patterns(tree: Path, pattern: str, expected: list[str], slash: str):
    found = files.glob(f"{tree}{slash}", pattern)
    assert list(found) == sorted(expected)
    assert all(info.size == len(key) and Path(info.uri).samefile(tree / key) for key, info in found.items())


def test_a_dot_in_a_pattern_is_a_dot():
    assert not files.compile_glob("*.jpg").fullmatch("1xjpg")
    assert files.compile_glob("**/x").fullmatch("x")
    assert not files.compile_glob("**/x").fullmatch("yx")


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.jpg").touch()
    (tmp_path / "a" / "to_b").symlink_to("../b")
    (tmp_path / "b" / "to_a").symlink_to("../a")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "broken").symlink_to("nowhere")
    assert list(files.glob(str(tmp_path), "**/*.jpg")) == ["a/to_b/1.jpg", "b/1.jpg"]


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path):
    assert files.list_folder(str(tmp_path / "none")) == []
    (tmp_path / "file").touch()
    assert files.list_folder(str(tmp_path / "file")) == []


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "new" / "file"

    def fail() -> None:
        with files.create(str(target)) as file:
            file.write(b"half")
            assert not target.exists()
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        fail()
    assert os.listdir(target.parent) == []
    files.write_bytes(str(target), b"whole")
    assert target.read_bytes() == b"whole"
    files.write_bytes(str(target), b"again")
    assert target.read_bytes() == b"again"
    assert os.listdir(target.parent) == ["file"]


def test_what_a_killed_run_left_is_known_by_its_name(tmp_path: Path):
    with files.create(str(tmp_path / "file.json")):
        (left,) = os.listdir(tmp_path)
    assert files.is_temporary(left)
    for name in ("file.json", "file.json.tmp", f"{'0' * 32}.tmp", left.removesuffix(".tmp")):
        assert not files.is_temporary(name)
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / left).touch()
    files.remove_temporaries(str(tmp_path))
    assert len(os.listdir(tmp_path)) == 5
    assert os.listdir(tmp_path / "sub") == []


def test_remove(tmp_path: Path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("folder", "file", "nothing"):
        files.remove(str(tmp_path / name))
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("a", "b", "c"), "a/b/c"),
        (("a/", "b"), "a/b"),
        (("/", "b"), "/b"),
        (("s3://bucket/x/", "y", "z"), "s3://bucket/x/y/z"),
    ],
)
def test_join(parts: tuple[str, ...], joined: str):
    assert files.join(*parts) == joined
