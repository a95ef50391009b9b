"""Whether a worker has what its launcher has: other versions of some packages give other bytes, or fail in odd ways."""

import platform
import socket
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from ..errors import PenstockError
from ..prepare.shipping import OwnModules

_PACKAGES = (
    "penstock",
    "apache-beam",
    "tensorflow",
    "tensorflow-transform",
    "tfx-bsl",
    "pillow",
    "simplejpeg",
    "cykooz-resizer",
    "numpy",
    "pyarrow",
)


def versions_here() -> Mapping[str, str]:
    """What shapes bytes or travels in pickles, and its version in this process."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, **{name: _version(name) for name in _PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def expect_launchers(versions: Mapping[str, str], own: OwnModules) -> None:
    """Checks a worker, before it does anything.

    Args:
      versions: What the launcher has.
      own: The recipe's own modules.

    Raises:
      PenstockError: this process has other versions, or modules of the same names that are not the recipe's.
    """
    here = versions_here()
    differing = [name for name in versions if here.get(name, "none") != versions[name]]
    host = socket.gethostname()
    if differing:
        expected = ", ".join(f"{name} {versions[name]}" for name in differing)
        found = ", ".join(f"{name} {here.get(name, 'none')}" for name in differing)
        raise PenstockError(
            f"the worker on {host}: expected {expected}, as the launcher has, found {found}; let workers and launcher "
            "run in the same image"
        )
    for name, place in own.imported_from_elsewhere().items():
        raise PenstockError(
            f"the worker on {host}: expected the recipe's module {name} as the launcher has it, found another one at "
            f"{place}; remove that from the image, or name the recipe's otherwise"
        )
