import pytest
from stored_datasets import write

from penstock.pipeline.load import Dataset, open_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """21 examples in shards of 7, 5 and 9."""
    return open_dataset(str(write(tmp_path_factory.mktemp("dataset"))))
