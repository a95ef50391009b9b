"""MLflow: records in a run which dataset it was trained on. Imports MLflow.

    import mlflow
    from penstock.mlflow import dataset

    with mlflow.start_run():
        mlflow.log_input(dataset("s3://prepared/pets"), context="training")

`mlflow.data.get_source(...).load()` opens what was recorded again: the same generation, whatever was committed since.
"""

import json
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

try:
    from mlflow.data.dataset import Dataset as _Dataset
    from mlflow.data.dataset_source import DatasetSource as _DatasetSource
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] != "mlflow":
        raise
    raise ModuleNotFoundError(
        "penstock.mlflow: expected MLflow, found it not installed; pip install 'penstock[mlflow]'", name="mlflow"
    ) from missing

if TYPE_CHECKING:
    from .pipeline import Dataset
    from .pipeline.formats.features import Feature
    from .pipeline.formats.manifest import Manifest

_DIGEST = 36  # characters that MLflow keeps of a digest
_SCHEMA, _PROFILE = 1 << 20, 1 << 24  # characters that it keeps less than, of a schema and of a profile
_CHANNELS = 16  # more numbers than these are no statistic to look at


def dataset(
    source: "str | os.PathLike[str] | Dataset", *, generation: str | None = None, name: str | None = None
) -> "PenstockDataset":
    """A dataset, for `mlflow.log_input`. Nothing of its examples is read.

    Args:
      source: The dataset's URI, or an open one.
      generation: The id of the generation, or its beginning; None: the current one, or that of the open one.
      name: What MLflow is to call it; None: the name of its folder.

    Returns:
      A dataset of MLflow's: its digest is of the manifest, its schema tells the stored features, and its profile the
      counts of examples, and the statistics.

    Raises:
      RequestError: there is no such generation.
      NotCommittedError: there is no dataset, or none that was committed.
      DatasetError: its manifest or its statistics are damaged.
    """
    from .pipeline.formats.generations import load_generation
    from .pipeline.formats.manifest import read_stored
    from .pipeline.load.dataset import Dataset
    from .pipeline.storage import files

    if isinstance(source, Dataset):
        uri, generation = source.uri, generation or source.generation
    else:
        uri = os.fspath(source)
    uri = files.absolute(uri)
    manifest, pointer = load_generation(uri, generation)
    statistics = json.loads(read_stored(uri, manifest.statistics.file))
    recorded = PenstockSource(uri, manifest.generation, pointer.sha256)
    return PenstockDataset(recorded, name or uri.rstrip("/").rpartition("/")[2], manifest, statistics)


class PenstockSource(_DatasetSource):  # type: ignore[misc]
    """Where a dataset is: what MLflow keeps of it to find it again.

    Attributes:
      uri: The dataset's folder.
      generation: The generation's id.
      sha256: Of the generation's manifest, which has the checksums of all of its files.
    """

    def __init__(self, uri: str, generation: str, sha256: str) -> None:
        self.uri = uri
        self.generation = generation
        self.sha256 = sha256

    def load(self, **options: Any) -> "Dataset":
        """Opens the generation that was recorded.

        Args:
          options: For `open_dataset`.

        Raises:
          DatasetError: it is not there any more, or was made again and differs from what was recorded.
        """
        from .pipeline import open_dataset
        from .pipeline.errors import DatasetError
        from .pipeline.formats.generations import load_generation

        found = load_generation(self.uri, self.generation)[1].sha256
        if found != self.sha256:
            raise DatasetError(
                f"{self.uri}, generation {self.generation}: expected the manifest that was recorded, with SHA-256 "
                f"{self.sha256}, found {found}: it was made again since; record it anew"
            )
        return open_dataset(self.uri, generation=self.generation, **options)

    def to_dict(self) -> dict[str, str]:
        return {"uri": self.uri, "generation": self.generation, "manifest_sha256": self.sha256}

    @classmethod
    def from_dict(cls, source_dict: Mapping[str, str]) -> "PenstockSource":
        return cls(source_dict["uri"], source_dict["generation"], source_dict["manifest_sha256"])

    @staticmethod
    def _get_source_type() -> str:
        return "penstock"

    @staticmethod
    def _can_resolve(raw_source: object) -> bool:
        return False  # a URI alone does not tell that a dataset of Penstock's is there

    @classmethod
    def _resolve(cls, raw_source: object) -> "PenstockSource":
        raise NotImplementedError("expected a dataset that penstock.mlflow.dataset recorded; use that")


class PenstockDataset(_Dataset):  # type: ignore[misc]
    """A generation of a dataset, as MLflow records it."""

    def __init__(self, source: PenstockSource, name: str, manifest: "Manifest", statistics: Mapping[str, Any]) -> None:
        self._manifest = manifest
        self._statistics = statistics
        super().__init__(source, name, source.sha256[:_DIGEST])

    @property
    def schema(self) -> dict[str, Any]:
        """The stored features, as MLflow's tensors."""
        features = [_tensor(name, feature) for name, feature in self._manifest.features.items()]
        return {"mlflow_tensorspec": {"features": json.dumps(features), "targets": None}}

    @property
    def profile(self) -> dict[str, Any]:
        """Counts, and the statistics that are numbers."""
        manifest = self._manifest
        return {
            "num_rows": manifest.written,
            "splits": {name: split.examples for name, split in manifest.splits.items()},
            "bytes": sum(split.bytes for split in manifest.splits.values()),
            "quarantined": manifest.quarantined,
            "filtered": manifest.filtered,
            "created": manifest.created,
            "recipe": manifest.origin.recipe.name,
            "statistics": {
                "split": self._statistics["split"],
                **{name: _numbers(entry) for name, entry in self._statistics["features"].items()},
            },
        }

    def to_dict(self) -> dict[str, str]:
        """What MLflow records; a schema or statistics that are too long for it are left out."""
        schema, profile = json.dumps(self.schema), json.dumps(self.profile)
        if len(profile) >= _PROFILE:
            profile = json.dumps({name: value for name, value in self.profile.items() if name != "statistics"})
        return {**super().to_dict(), **({"schema": schema} if len(schema) < _SCHEMA else {}), "profile": profile}

    def _compute_digest(self) -> str:
        return str(self.source.sha256[:_DIGEST])


def _tensor(name: str, feature: "Feature") -> dict[str, Any]:
    """A feature as MLflow describes a batch of it."""
    dtype = "str" if feature.dtype == "string" else feature.dtype  # NumPy's name
    shape = [-1, *(-1 if size is None else size for size in feature.shape)]
    return {"name": name, "type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}


def _numbers(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Of a feature's statistics those that are numbers, or a few of them, as channels have."""
    return {name: value for name, value in entry.items() if _is_number(value) or _are_numbers(value)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and len(value) <= _CHANNELS and all(map(_is_number, value))
