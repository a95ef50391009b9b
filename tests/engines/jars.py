"""A job server's jar of a few kilobytes, which names the jars that it consists of."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

_LINE = 72  # bytes of a manifest's line at most


def thin_jar(path: Path, main: str, jars: Sequence[Path]) -> Path:
    """Writes a jar that stands for the whole one which Beam releases.

    Args:
      path: Where.
      main: The class whose `main` is run.
      jars: Its class path. No folder may be among them: what is on the class path is staged with a job.
    """
    header = "Class-Path: " + " ".join(jar.absolute().as_uri() for jar in jars)
    lines, rest = [header[:_LINE]], header[_LINE:]
    while rest:
        lines.append(" " + rest[: _LINE - 1])
        rest = rest[_LINE - 1 :]
    manifest = "\r\n".join(["Manifest-Version: 1.0", f"Main-Class: {main}", *lines, "", ""])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", manifest)
    return path
