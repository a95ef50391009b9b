import subprocess
import sys

import pytest

from penstock.pipeline.load import Dataset

_SCRIPT = """
import sys
from penstock.pipeline import open_dataset
dataset = open_dataset({uri!r})
for batch in {expression}:
    assert len(batch["row"])
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""
_NEVER = {"apache_beam", "tensorflow_transform", "tfx_bsl"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("needs", "expression"),
    [
        (None, "dataset.numpy('train', 4, shuffle=True)"),
        (None, "[dataset.source('train', features=True)[[0, 1]][0:1] and {'row': [1]}]"),
        pytest.param("torch", "dataset.torch('train', 4)", marks=pytest.mark.extras("torch")),
        pytest.param("jax", "dataset.jax('train', 4)", marks=pytest.mark.extras("jax")),
        ("tensorflow", "dataset.tf('train', 4, features=False)"),
    ],
)
def test_loading_imports_only_what_it_uses(dataset: Dataset, needs: str | None, expression: str) -> None:
    script = _SCRIPT.format(uri=dataset.uri, expression=expression)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = set(result.stdout.split())
    assert not modules & _NEVER
    if needs != "tensorflow":  # which imports others where they are installed
        assert not modules & ({"tensorflow", "torch", "jax", "keras"} - {needs})
    if needs is None:
        assert "pyarrow" not in modules
