"""Raw data is read where it is, within the input's folder, and never missed."""

from pathlib import Path

import numpy as np
from helpers import save, write

from penstock.pipeline.report.originals import Originals


def test_an_image_is_read_by_its_key_and_by_its_uri(tmp_path: Path):
    save(tmp_path / "raw/a.png", np.zeros((20, 300, 3), np.uint8))
    with Originals(str(tmp_path / "raw"), True) as raw:
        original = raw.image("a.png")
        assert original is not None
        assert (original.size, original.format) == ((300, 20), "PNG")
        assert max(original.shown) == 96
        assert original.uri.startswith("data:image/jpeg;base64,")
        assert raw.image(str(tmp_path / "raw/a.png")) == original


def test_what_is_no_image_or_not_there_is_none(tmp_path: Path):
    write(tmp_path / "raw", {"a.png": b"no image", "b.jpg": b"\xff\xd8\xff\xe0 damaged"})
    with Originals(str(tmp_path / "raw"), True) as raw:
        assert [raw.image(name) for name in ("a.png", "b.jpg", "c.png")] == [None, None, None]


def test_nothing_outside_of_the_input_is_read(tmp_path: Path):
    save(tmp_path / "secret.png", np.zeros((4, 4, 3), np.uint8))
    write(tmp_path, {"secret.csv": "a\nb\n", "raw/a.csv": "h\n1\n2\n"})
    root = str(tmp_path / "raw")
    with Originals(root, True) as raw:
        assert raw.image(f"{root}/../secret.png") is None
        assert raw.image("../secret.png") is None
        assert raw.rows([("a", str(tmp_path / "secret.csv"), 1), ("b", f"{root}/../secret.csv", 1)]) == {}
        assert raw.rows([("a", f"{root}/a.csv", 2), ("b", f"{root}/a.csv", 9)]) == {"a": "1"}
    with Originals(root, False) as raw:
        assert raw.rows([("a", f"{root}/a.csv", 2)]) == {}
