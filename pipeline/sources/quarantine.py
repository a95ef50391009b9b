"""What is said of an example that cannot be used."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class QuarantinedExample:
    """Why an example went to the quarantine: one line of a quarantine file.

    Attributes:
      key: The example's key.
      uri: The payload that could not be used.
      stage: Where it failed: `plan`, `read`, `split`, `decode`, `prepare` or `encode`.
      code: The reason in snake_case, for counting.
      message: The reason in words.
      sha256: The payload's content hash; None where it was not read.
    """

    key: str
    uri: str
    stage: str
    code: str
    message: str
    sha256: str | None = None

    def to_line(self) -> bytes:
        """The line, a JSON object."""
        return json.dumps(asdict(self), sort_keys=True).encode() + b"\n"
