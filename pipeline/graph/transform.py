"""The transform graph of a committed dataset, as functions of batches of decoded features."""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from ..errors import DatasetError
from ..storage import files
from .executor import CompiledGraph
from .portable import FILE, NotPortableError, PortableGraph


class Transform:
    """The transform graph: decoded features in, model-ready features out, in the arrays' own framework.

    `transform(batch)` is `transform.device(transform.host(batch))`. The device's part takes arrays of NumPy, JAX,
    PyTorch or TensorFlow, can be compiled by XLA, and leaves out strings. It pickles.

    Attributes:
      path: The URI of the folder that `tft.TFTransformOutput` opens.
      outputs: Output name to dtype.
      trust: Whether the SavedModel may do whatever it wants; see `graph_copy`. The portable graph only computes.
    """

    def __init__(self, path: str, outputs: Mapping[str, str], trust: bool = False) -> None:
        self.path = path
        self.outputs = dict(outputs)
        self.trust = trust

    def __getstate__(self) -> tuple[str, Mapping[str, str], bool]:
        return self.path, self.outputs, self.trust

    def __setstate__(self, state: tuple[str, Mapping[str, str], bool]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    @cached_property
    def content(self) -> dict[str, Any]:
        """The portable graph as JSON; see `exporter`."""
        uri = files.join(self.path, FILE)
        try:
            content: dict[str, Any] = json.loads(files.read_bytes(uri))
        except FileNotFoundError as error:
            raise DatasetError(f"{uri}: the portable transform graph is missing; run the recipe again") from error
        except ValueError as error:
            raise DatasetError(
                f"{uri}: expected JSON, found a damaged file ({error}); run `penstock verify`"
            ) from error
        return content

    @cached_property
    def graph(self) -> PortableGraph:
        """The portable graph.

        Raises:
          NotPortableError: the graph has an operation that only TensorFlow can do, or that a newer penstock wrote.
          DatasetError: the file is missing or damaged.
        """
        return self._open(self.content)

    @cached_property
    def portable_part(self) -> PortableGraph:
        """The outputs that have a portable form, also where others have none.

        Raises:
          NotPortableError: none has one.
          DatasetError: as for `graph`.
        """
        return self._open({**self.content, "unsupported": []}) if self.content.get("outputs") else self.graph

    def _open(self, content: Mapping[str, Any]) -> PortableGraph:
        try:
            return PortableGraph(content, self._read_asset)
        except (LookupError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{files.join(self.path, FILE)}: expected a portable graph, found a damaged one "
                f"({type(error).__name__}: {error}); run `penstock verify`"
            ) from error

    def _read_asset(self, path: str) -> bytes:
        """A file of the graph: nothing outside of its folder, whatever the portable graph says."""
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise ValueError(f"expected the path of an asset in the graph's folder, found {path!r}")
        return files.read_bytes(files.join(self.path, path))

    def layer(self, **options: Any) -> Any:
        """The device's part as a Keras 3 layer, for any Keras backend."""
        from .keras import TransformLayer

        return TransformLayer(self.content, **options)

    @property
    def portable(self) -> bool:
        """Whether the graph runs without TensorFlow."""
        try:
            return self.graph is not None
        except NotPortableError:
            return False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The decoded features that the outputs depend on."""
        return self.graph.inputs

    def host(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What only a host can do: decoded features (NumPy) in, what the device takes out. Pixels stay as stored."""
        return self.graph.run_host(batch)

    def device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The rest: what `host` computed in, the graph's outputs out."""
        return self.graph.run_device(batch)

    def strings(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs that are strings, which `device` leaves out where it is compiled, from what `host` computed."""
        return self.graph.strings(batch)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The whole graph on a batch of decoded features."""
        return self.device(self.host(batch))

    def compiled(self, features: bool | Literal["host"], sample: Mapping[str, Any]) -> CompiledGraph | None:
        """What an adapter's `features` argument stands for, for NumPy batches like `sample`, a batch of 1."""
        return CompiledGraph(self.graph, features == "host", sample) if features else None
