"""The benchmark of training runs where there is no GPU, too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import REPOSITORY


@pytest.mark.slow
@pytest.mark.extras("torch", "torchvision", "jax")
def test_training_is_measured_on_a_cpu(tmp_path: Path) -> None:
    script, result = REPOSITORY / "benchmarks/train.py", tmp_path / "train.json"
    small = ["--quick", "--images", "16", "--batch", "2", "--photos", tmp_path / "none", "--census", tmp_path / "none"]
    command = [sys.executable, script, *small, "--json", result]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    subprocess.run(command, check=True, timeout=600, env=environment)
    sections = {name: section["rows"] for name, section in json.loads(result.read_text())["sections"].items()}
    assert list(sections) == ["train", "loading", "outputs"]
    feeds = [row["claim"] for row in sections["train"]]
    assert feeds[0] == "resnet18, one batch that is there"
    assert len(feeds) == 7
    rates = [*sections["train"], *sections["loading"]]
    assert all(row["value"] > 0 for row in rates)
    by_claim = {row["claim"]: row for row in sections["outputs"]}
    assert by_claim["PyTorch, jpeg: outputs there and NumPy's, floats"]["value"] == 0
    assert all(row["met"] for row in sections["outputs"])
