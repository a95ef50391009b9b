"""golden.json: what the transform graph gave for a few stored examples when it was written."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..formats.json_fields import JsonObject

EXAMPLES = 8
_START = 32  # values of an output that are kept as they are
_TOLERANCE = 1e-5  # relative: another processor may round a float differently


@dataclass(frozen=True)
class GoldenOutput:
    """An output's values for the golden examples: dtype, shape, the SHA-256 of all of them, and the first ones."""

    dtype: str
    shape: list[int]
    sha256: str
    start: list[Any]

    @classmethod
    def of(cls, value: np.ndarray) -> "GoldenOutput":
        """What is kept of an output.

        Args:
          value: [batch, ...], of any dtype; strings are objects (bytes).
        """
        is_string = value.dtype == object
        flat = value.ravel()
        content = b"\0".join(flat.tolist()) if is_string else value.tobytes()
        start = [item.decode(errors="replace") if isinstance(item, bytes) else item for item in flat[:_START].tolist()]
        dtype = "string" if is_string else str(value.dtype)
        return cls(dtype, list(value.shape), hashlib.sha256(content).hexdigest(), start)

    def agrees_with(self, other: "GoldenOutput") -> bool:
        """Whether the values are equal, or floats that differ by rounding."""
        if (self.dtype, self.shape) != (other.dtype, other.shape):
            return False
        if self.sha256 == other.sha256:
            return True
        if not self.dtype.startswith("float"):
            return False
        pairs = zip(self.start, other.start, strict=True)
        return all(abs(a - b) <= _TOLERANCE * max(abs(a), abs(b), 1) for a, b in pairs)


@dataclass(frozen=True)
class Golden:
    """The content of golden.json.

    Attributes:
      shard: The shard whose first examples the graph was applied to, relative to the dataset.
      examples: How many of them.
      outputs: Output name to what came out.
    """

    shard: str
    examples: int
    outputs: Mapping[str, GoldenOutput]

    @classmethod
    def of(cls, shard: str, examples: int, outputs: Mapping[str, np.ndarray]) -> "Golden":
        """What is kept of the graph's outputs for the first examples of a shard."""
        return cls(shard, examples, {name: GoldenOutput.of(value) for name, value in outputs.items()})

    def encode(self) -> bytes:
        """The bytes of golden.json."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def decode(cls, content: bytes) -> "Golden":
        """Reads the bytes back; their checksum is the manifest's.

        Raises:
          ValueError: they are not what `encode` writes.
        """
        entry = JsonObject.of(json.loads(content))
        outputs = {
            name: GoldenOutput(
                output.string("dtype"),
                list(output.array("shape")),
                output.string("sha256"),
                list(output.array("start")),
            )
            for name, output in entry.object("outputs").named_objects()
        }
        return cls(entry.path("shard"), entry.count("examples"), outputs)

    def differing(self, outputs: Mapping[str, np.ndarray]) -> list[str]:
        """The names of outputs that are missing, new, or of other values than they were."""
        now = {name: GoldenOutput.of(value) for name, value in outputs.items()}
        names = sorted(self.outputs.keys() | now.keys())
        return [
            name
            for name in names
            if name not in now or name not in self.outputs or not self.outputs[name].agrees_with(now[name])
        ]
