"""What a notebook shows of a dataset: its images, statistics, warnings; and what it does where these cannot be read."""

import base64
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penstock.pipeline.load import Dataset, open_dataset
from penstock.pipeline.load.show import thumbnail


def images(html: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_a_notebook_shows_images_statistics_and_labels(dataset: Dataset):
    html = dataset._repr_html_()
    assert len(images(html)) == 8
    assert images(html)[0].size == (24, 16)
    assert "<figcaption>cat</figcaption>" in html
    assert "mean 120 110 100" in html
    assert "cat 11, dog 10" in html
    assert len(html) < 100_000


def test_what_the_dataset_says_is_escaped(dataset: Dataset):
    manifest = replace(dataset.manifest, warnings=("<script>alert(1)</script>",) * 7)
    html = Dataset(dataset.uri, manifest)._repr_html_()
    assert "<script>" not in html
    assert html.count("&lt;script&gt;") == 5
    assert "and 2 more warnings" in html


def test_a_sample_says_so(dataset: Dataset):
    origin = replace(dataset.manifest.origin, options={"limit": 21})
    assert "limited to 21 examples" in Dataset(dataset.uri, replace(dataset.manifest, origin=origin))._repr_html_()


def test_it_shows_what_can_be_read(dataset: Dataset, tmp_path: Path):
    copy = Path(shutil.copytree(dataset.uri, tmp_path / "copy"))
    opened = open_dataset(copy)
    shutil.rmtree(copy / opened.generation)
    html = opened._repr_html_()
    assert images(html) == []
    assert "21 examples" in html


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 1), (np.uint8, 3), (np.uint16, 3), (np.uint8, 4)])
def test_thumbnails_are_small_whatever_the_pixels(dtype: type, channels: int):
    white = np.full((300, 200, channels), np.iinfo(dtype).max, dtype)
    image = Image.open(io.BytesIO(thumbnail(white)))
    assert image.size == (64, 96)
    assert np.unique(np.asarray(image)).tolist() == [255]


def test_classes_of_a_mask_are_laid_over_their_image_but_for_0():
    mask = np.zeros((10, 10, 1), np.uint8)
    mask[:, 5:] = 1
    shown = np.asarray(Image.open(io.BytesIO(thumbnail(np.zeros((10, 10, 3), np.uint8), mask))))
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert shown[0, 9].tolist() == [92, 63, 0]
