"""Random access to stored examples, as other loaders want a source."""

import pytest

from penstock.pipeline.load import Dataset


@pytest.mark.extras("grain")
def test_grain_takes_it_as_a_source(dataset: Dataset) -> None:
    import grain

    rows = [example["row"] for example in grain.MapDataset.source(dataset.source("train")).shuffle(seed=1)]
    assert sorted(rows) == list(range(21))
