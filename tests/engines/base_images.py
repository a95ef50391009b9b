"""What stands for the base images of the Dockerfile: folders with the same Debian packages, taken from this machine."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_DEBIAN = ("apt", "netbase", "passwd", "tzdata")  # what debian:*-slim has besides the essential packages
_PYTHON = ("ca-certificates", "libffi8", "libncursesw6", "libreadline8", "libsqlite3-0", "libssl3")  # python:*-slim
_LINKS = ("bin", "lib", "lib64", "sbin")  # into usr/
_GENERATED_FOLDERS = ("etc/alternatives", "etc/ssl/certs")  # by scripts of packages
_GENERATED_FILES = ("etc/passwd", "etc/group", "etc/shadow", "etc/resolv.conf", "etc/hosts")
_UNNEEDED = ("/usr/share/doc", "/usr/share/man")
_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]+")


def debian_with_python(root: Path) -> None:
    """Makes python:*-slim: Debian's essential packages, and this process's Python with pip and no other package."""
    for name in _LINKS:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    files = sorted({_resolved(path) for path in _files_of(_packages())})
    listing = "\0".join(path.lstrip("/") for path in files)
    reader = ["tar", "--create", "--directory=/", "--no-recursion", "--null", "--files-from=-"]
    archive = subprocess.run(reader, input=listing.encode(), stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "--extract", f"--directory={root}"], input=archive.stdout, check=True)
    for name in _GENERATED_FOLDERS:
        shutil.copytree(Path("/", name), root / name, symlinks=True, dirs_exist_ok=True)
    for name in _GENERATED_FILES:
        shutil.copy2(Path("/", name), root / name)
    for name in ("dev", "proc", "root", "tmp"):
        (root / name).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    _copy_python(root / "usr/local")
    subprocess.run(["chroot", str(root), "/sbin/ldconfig"], check=True)


def _packages() -> set[str]:
    """The essential packages, `_DEBIAN`, `_PYTHON`, and all that these depend on, as far as they are installed."""
    line = "${Package}\t${Essential}\t${Pre-Depends}, ${Depends}\n"
    rows = [row.split("\t") for row in _output("dpkg-query", "--show", f"--showformat={line}").splitlines()]
    needs = {name: set(_NAME.findall(re.sub(r"\([^)]*\)|:any", "", depends))) for name, _, depends in rows}
    names = {name for name, essential, _ in rows if essential == "yes"} | {*_DEBIAN, *_PYTHON}
    while more := {need for name in names for need in needs[name] if need in needs} - names:
        names |= more
    return names


def _files_of(packages: Iterable[str]) -> Iterator[str]:
    for path in _output("dpkg-query", "--listfiles", *sorted(packages)).splitlines():
        if path.startswith("/") and path != "/." and not path.startswith(_UNNEEDED):
            yield path


def _resolved(path: str) -> str:
    """The path with /bin, /lib and so on as the links into /usr that they are."""
    first = path.split("/")[1]
    return f"/usr{path}" if first in _LINKS and path != f"/{first}" else path


def _copy_python(prefix: Path) -> None:
    """Copies this process's Python to /usr/local, where Python's images have it."""
    base = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ignore = shutil.ignore_patterns("site-packages", "test", "__pycache__")
    shutil.copytree(base / "lib" / version, prefix / "lib" / version, ignore=ignore, symlinks=True)
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy2(library, prefix / "lib", follow_symlinks=False)
    (prefix / "bin").mkdir(exist_ok=True)
    shutil.copy2(base / "bin" / version, prefix / "bin")
    for name in ("python", "python3"):
        (prefix / "bin" / name).symlink_to(version)
    packages = base / "lib" / version / "site-packages"
    for each in (*packages.glob("pip"), *packages.glob("pip-*"), *packages.glob("setuptools*")):
        shutil.copytree(each, prefix / "lib" / version / "site-packages" / each.name, dirs_exist_ok=True)
    (prefix / "bin/pip").write_text(f'#!/bin/sh\nexec /usr/local/bin/{version} -m pip "$@"\n')
    (prefix / "bin/pip").chmod(0o755)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
